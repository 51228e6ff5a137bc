"""The script that compares values with decoded partial pictures, with a tiny generator."""

import json
import sys

import pytest
from painting import Red, painter, value_recipe
from rich.console import Console
from scripted import scripts

from arzoo.base import registry
from arzoo.base.errors import UsageError
from arzoo.train.build import run


class Blue(Red):
    name, networks = "blue", frozenset({"other eye"})


def test_values_are_compared_with_decoded_pictures(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    registry.names("verifier")
    monkeypatch.setitem(registry._entries["verifier"], "red", Red)
    monkeypatch.setitem(registry._entries["verifier"], "blue", Blue)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    painter(tmp_path)
    run(
        value_recipe(tmp_path, run={"steps": 2}, value={"rollouts": 64}),
        tmp_path / "value",
        console=Console(quiet=True),
    )
    with scripts("scripts/dev/reproduce") as load:
        script = load("value_search")
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path / "claims")
        monkeypatch.setattr(script, "SIZES", {"beam": ((2, 2),), "best of N": (3,)})
        options = [
            str(tmp_path / "value"),
            "--generator",
            str(tmp_path / "gen"),
            "--num",
            "2",
            "--seeds",
            "0",
            "1",
        ]
        monkeypatch.setattr(sys, "argv", ["value_search.py", *options, "--judge", "red"])
        with pytest.raises(UsageError, match="judge red looks with eye, as what steers"):
            script.main()
        monkeypatch.setattr(sys, "argv", ["value_search.py", *options, "--judge", "blue"])
        script.main()
    assert (tmp_path / "claims" / "value_search.png").stat().st_size > 0
    claim = json.loads((tmp_path / "claims" / "value_search.json").read_text())
    rows = claim["rows"]
    assert [line[0] for line in claim["cells"]] == list(rows)
    assert rows["best of 3, decoded"]["decodes"] == 3
    assert rows["best of 3, by value"]["decodes"] == rows["beam 2 x 2, by value"]["decodes"] == 2
    assert rows["beam 2 x 2, decoded"]["decodes"] > 4
    assert rows["best of 3, decoded"]["verifier"] >= rows["plain"]["verifier"]
    assert rows["plain"]["judge_error"] > 0
    assert {len(line) for line in claim["cells"]} == {len(claim["head"])}
