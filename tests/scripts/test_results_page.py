"""The page of results: what is in it, and what it is not written without."""

import json

import pytest
from scripted import scripts

from arzoo.base.errors import ArzooError


@pytest.fixture
def page():
    with scripts("scripts/dev") as load:
        yield load("results_page")


def test_the_page_shows_the_figures_that_are_there(page):
    results = json.loads((page.DOCS / "results.json").read_text())
    assert page.markdown(results) == (page.DOCS / "results.md").read_text()


@pytest.mark.parametrize("conclusion", [None, "", " \n"])
def test_a_claim_without_a_conclusion_is_refused(page, tmp_path, monkeypatch, conclusion):
    monkeypatch.setattr(page, "CLAIMS", tmp_path)
    figures = {
        "title": "T",
        "command": "c",
        "n": 3,
        "seeds": [],
        "hardware": "h",
        "head": ["a"],
        "cells": [["1"]],
    }
    (tmp_path / "toy.json").write_text(json.dumps(figures))
    if conclusion is not None:
        (tmp_path / "toy.md").write_text(conclusion)
    with pytest.raises(ArzooError, match=r"toy\.json has no conclusion.*toy\.md"):
        page.claims()
    (tmp_path / "toy.md").write_text("Holds.\n")
    assert page.claims() == "### T\n\nHolds.\n\n| a |\n| --- |\n| 1 |\n\n`c`: 3 pictures; h."
