"""Pages that show results, which open from disk with no network: one HTML file, with a folder beside it for thousands of pictures."""

from .compare import write_comparison
from .demo_page import Section, write_page
from .figures import save_figures
from .judged import judge_store
from .microscope import write_microscope
from .store_page import write_report

__all__ = ["Section", "judge_store", "save_figures", "write_comparison", "write_microscope", "write_page", "write_report"]
