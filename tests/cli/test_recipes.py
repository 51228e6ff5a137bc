"""`arzoo recipes`, and tables that fit a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command import command, failing

from arzoo.base import console
from arzoo.base.console import table
from arzoo.train.recipe import load_recipe, recipes


def test_recipes_are_listed_and_shown(capsys):
    listed = command(capsys, "recipes", "--json").json["recipes"]
    assert list(listed) == list(recipes())
    assert all(listed.values()), "every recipe begins with what it trains"
    assert list(command(capsys, "recipes", "ls", "smok*", "--json").json["recipes"]) == ["smoke"]
    several = command(capsys, "recipes", "ls", "smok*", "own_*", "--json").json["recipes"]
    assert list(several) == ["own_generator", "own_tokenizer", "smoke"]
    assert "nothing matches 'zz*' or 'yy*'" in command(capsys, "recipes", "ls", "zz*", "yy*").out
    assert command(capsys, "recipes", "show", "smoke").out == recipes()["smoke"].read_text(encoding="utf-8")


def test_a_copy_is_a_recipe_of_ones_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "arzoo train smoke.yaml" in command(capsys, "recipes", "cp", "smoke").out
    assert load_recipe("smoke.yaml") == load_recipe("smoke")
    Path("smoke.yaml").write_text("mine")
    failing(command(capsys, "recipes", "cp", "smoke"), "smoke.yaml exists", "--overwrite")
    assert Path("smoke.yaml").read_text() == "mine"
    assert command(capsys, "recipes", "cp", "smoke", "--overwrite").status == 0
    Path("folder").mkdir()
    assert command(capsys, "recipes", "cp", "smoke", "folder").status == 0
    assert Path("folder/smoke.yaml").is_file()


def test_mistakes_are_explained(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failing(command(capsys, "recipes", "show", "smok"), "Did you mean 'smoke'", status=2)
    failing(command(capsys, "recipes", "cp", "smoke", "no/x.yaml"), "no folder no")
    failing(command(capsys, "recipes", "cp", "smoke", "x.txt"), ".yaml", status=2)
    for action, usage in (("show", "RECIPE"), ("cp", "RECIPE [FILE]")):
        failing(command(capsys, "recipes", action), f"usage: arzoo recipes {action} {usage}", status=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [40, 80])
def test_tables_fit_the_width_they_are_given(width):
    rows = [("name", "short", "a long description of what it is " * 4), ("日本", "x", "y")]
    lines = table(rows, ("one", "two", "three"), width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[2].endswith("…")
    assert "a long description of what it is " * 3 in table(rows, width=0)


def test_tables_of_many_columns_go_on_below():
    """Figures are not shortened to nothing, and every part begins with what its rows are about."""
    figures = [f"figure_number_{i}" for i in range(8)]
    lines = table([("model", *[f"0.1861 ± 0.00{i}" for i in range(8)])], ("", *figures), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert " ".join(lines[0::4]).split() == figures  # title, rule, row and an empty line
    assert all(line.startswith("model  0.1861") for line in lines[2::4])


def test_tables_are_cut_on_a_terminal_only(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert console.table_width() == 0
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert console.table_width() == 60
    monkeypatch.setattr(console, "_wide", True)
    assert console.table_width() == 0


def test_checkpoints_show_their_distances(capsys):
    plain = command(capsys, "checkpoints", "ls", "nar_emoji64").out.splitlines()
    assert plain[0].split()[-1] == "distance"
    assert "  fd 2" in plain[2]
    assert len(plain[2]) <= 80
    wide = command(capsys, "checkpoints", "ls", "nar_emoji64", "--wide").out.splitlines()
    assert "made of" in wide[0]
    several = command(capsys, "checkpoints", "ls", "nar_emoji64", "none", "vq_*64").out.splitlines()
    assert [line.split()[0] for line in several[2:]] == ["nar_emoji64", "vq_emoji64"]
    assert "vq_emoji64" in wide[2]
