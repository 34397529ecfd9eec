"""The paper about the package: short, its pictures are there, and what it cites is listed and what is listed is cited."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "paper" / "paper.md").read_text(encoding="utf-8")
BODY = TEXT.split("---", 2)[2]


def test_it_is_as_long_as_the_journal_asks_for():
    assert 250 <= len(re.sub(r"!\[.*?\]\(.*?\)", "", BODY, flags=re.S).split()) <= 1000


def test_its_pictures_are_there():
    pictures = re.findall(r"\]\((\.\./\S+?)\)", BODY)
    assert len(pictures) == 2
    assert all((ROOT / "paper" / picture).is_file() for picture in pictures)


def test_every_picture_s_caption_names_the_command_that_makes_it():
    captions = re.findall(r"!\[(.*?)\]\(\.\./", BODY, flags=re.S)
    assert len(captions) == 2
    for caption in captions:
        modules, scripts = re.findall(r"`python -m ([\w.]+)", caption), re.findall(r"`python (\S+\.py)", caption)
        made_by = [f"{m.replace('.', '/')}.py" for m in modules] + scripts
        assert made_by and all((ROOT / file).is_file() for file in made_by), caption


def test_what_is_cited_is_listed_and_what_is_listed_is_cited():
    listed = re.findall(r"^@\w+\{(\w+),", (ROOT / "paper" / "paper.bib").read_text(encoding="utf-8"), re.M)
    assert sorted(set(re.findall(r"@(\w+)", BODY))) == sorted(listed)


def test_its_figures_are_those_of_the_pages():
    pages = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("recognition", "inverses")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for figure, source in {"92 cases": "0.92 [0.85, 0.96]", "98, at 150": "0.98 [0.93, 0.99]", "9 of 20": "9 of 20 [0.26, 0.66]"}.items():
        assert figure in BODY.replace("\n", " ") and source in pages["recognition"]
    assert "14.6 % and 18.6 dB" in BODY and "| fire4 | 80 | 9.70 | 14.6 % (15.3 %) | 18.6 dB" in pages["inverses"]
    assert "in 18 evaluations instead of 350" in BODY and "| fire2 | 0.97 | 0.94 | 0.94 | 16, 17, 23, 15 |" in pages["inverses"]
    assert "20.6 % and 14.8 dB" in BODY and "| fire4 | paper | 350 | 8.70 | 20.6 % | 14.8 dB |" in readme
