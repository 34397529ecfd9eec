"""The command `preimage`, also as ``python -m preimage``."""

from __future__ import annotations

import contextlib
import os


def main() -> None:
    """Run the command; an interrupt in the seconds in which its modules are imported ends it as quietly as a later one."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # a stderr that is closed or full
            os.write(2, b"preimage: interrupted before there was anything to save\n")
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
