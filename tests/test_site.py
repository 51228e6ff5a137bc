"""The site of README and docs is built, and no link in it is broken."""

import os
import re
import subprocess
import sys

import pytest
from scripted import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_lie_where_they_lie_in_the_repository(site):
    for page in ("index.html", "CONTRIBUTING.html", "docs/sampling.html", "examples/spiral/index.html"):
        assert (site / page).is_file(), page
    assert 'href="CONTRIBUTING.html"' in (site / "index.html").read_text(encoding="utf-8")


def test_the_reference_has_the_docstrings(site):
    page = (site / "docs" / "api" / "models.html").read_text(encoding="utf-8")
    assert 'id="arzoo.load"' in page
    assert "A trained generator or tokenizer, or a segmenter of volumes." in page


def test_the_readme_leads_everywhere():
    """It stays short, and names the pages of what people look for."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", text))
    assert linked >= {
        "data.md", "evaluation.md", "extending.md", "glossary.md", "index.md", "own-pictures.md", "python.md",
        "sampling.md", "training.md", "video.md",
    }  # fmt: skip
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    index = set(re.findall(r"\]\(([\w-]+\.md)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert index == pages - {"index.md"}
