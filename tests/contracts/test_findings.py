"""Findings have their form: pinned packages, no arzoo, a line in the list. What they find is run by hand."""

import re
import subprocess

import pytest
from scripted import ROOT

FOLDER = ROOT / "findings"
FINDINGS = sorted(path for path in FOLDER.glob("*.sh") if path.name != "environment.sh")


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_a_finding_has_its_form(path):
    text = path.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", path], check=True)
    (pins,) = re.findall(r"^source .*/environment\.sh\" (.+)$", text, re.M)
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in pins.split())
    head = text.split("source ")[0]
    assert "# Guess: " in head
    assert "# Matters to: " in head
    assert "import arzoo" not in text
    assert "from arzoo" not in text
    assert f"| `{path.stem}` |" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_list_names_no_other_findings():
    listed = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == [path.stem for path in FINDINGS]


def test_what_the_page_of_libraries_names_exists():
    page = (ROOT / "docs" / "libraries.md").read_text(encoding="utf-8")
    tests = (ROOT / "tests" / "contracts" / "test_libraries.py").read_text(encoding="utf-8")
    assert all(f"def test_{name}" in tests for name in re.findall(r"`([a-z_]+)…`", page))
    assert set(re.findall(r"`(test_\w+\.py)`", page)) <= {
        path.name for path in (ROOT / "tests").rglob("*.py")
    }
    assert set(re.findall(r"findings/(\w+)\.sh", page)) <= {path.stem for path in FINDINGS}
