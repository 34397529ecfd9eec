"""PDFs without their letters: these cost half a second a figure, and `test_a_figure_is_whole…` looks for them once."""

from __future__ import annotations

import pytest
from matplotlib.backends import backend_pdf


def leave_out(patch: pytest.MonkeyPatch) -> None:
    """Write no fonts into PDFs while this lasts; the page, its drawings and its text stay."""
    patch.setattr(backend_pdf.PdfFile, "writeFonts", lambda file: file.writeObject(file.fontObject, {}))
