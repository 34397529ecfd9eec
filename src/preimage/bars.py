"""Progress bars that never end the work that they show: not where nobody reads them, nor where there is no stderr at all."""

from __future__ import annotations

import sys
from typing import IO, Any


class _Careful:
    """A stream whose reader may be gone: what cannot be written is not."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # a closed pipe, a full disk, a closed file
            return

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def progress_bar(iterable: Any = None, *, shown: bool = True, **options: Any) -> Any:
    """A bar of tqdm on stderr, or in a notebook. options: tqdm's own.

    >>> list(progress_bar(range(3), shown=False))
    [0, 1, 2]
    """
    from tqdm.auto import tqdm

    stream = sys.stderr
    if stream is None:  # closed before the program began
        return tqdm(iterable, disable=True, **options)
    return tqdm(iterable, disable=not shown, file=_Careful(stream), dynamic_ncols=True, **options)
