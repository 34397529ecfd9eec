"""Pages that show results: one HTML file each, which opens from disk with no network; and their figures as files."""

from .demo_page import Section, write_page
from .figures import save_figures
from .store_page import write_report

__all__ = ["Section", "save_figures", "write_page", "write_report"]
