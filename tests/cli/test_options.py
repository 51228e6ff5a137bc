"""Options of all verbs: none is lost when it is given twice, and paths are read alike."""

from __future__ import annotations

import importlib
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import tyro
from command import command, failing, picture, tiny_models

from arzoo.base.errors import UsageError
from arzoo.cli.__main__ import VERBS, Common
from arzoo.cli.options import PLACES, Option, gathered, options, with_paths
from arzoo.cli.train import Train

NO_PATHS = {"", "FLOAT", "INT", "W|A:B", "N|A:B", "FROM:TO", "T|off", "METHOD:SETTINGS", "SOLVER",
            "REGION|FRAMES[:REGION]", "PATTERN", "LAYOUT", "NAME", "TEXT", "[VALUE, ...]",
            "[CLASS [CLASS ...]]", "[TEXT [TEXT ...]]",
            "[FIGURE ...]", "PLAN[:OPTION=VALUE,...]", "METHOD", "STEPS", "WIDTHxHEIGHT", "NAME[:KEY=VALUE]",
            "[NAME[:KEY=VALUE] ...]", "[COUNT=MOST ...]", "[NAME ...]", "[KEY=VALUE ...]",
            "NAME|NAME=PATH"}  # fmt: skip
"""The last two are taken apart first, and their paths filled in then."""


@dataclass(kw_only=True)
class Verb:
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    top_k: int | None = None
    classes: Annotated[tuple[str, ...], tyro.conf.arg(name="class", metavar="[CLASS ...]")] = ()
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    greedy: bool = False


def verbs() -> list[type]:
    return [getattr(importlib.import_module(f"arzoo.cli.{name}"), name.capitalize()) for name in VERBS]


def parsed(*arguments: str) -> Verb:
    config = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(Verb, args=gathered(arguments, (Verb, Common)), config=config)


def test_values_of_an_option_that_takes_several_add_up():
    assert parsed("--class", "a", "b", "--greedy", "--class=c", "d").classes == ("a", "b", "c", "d")
    assert parsed("m", "--class", "a", "--top-k", "3", "--class", "-1").classes == ("a", "-1")
    assert parsed("--class", "a", "--", "m") == Verb(model="m", classes=("a",))
    assert parsed("--greedy", "--greedy").greedy


@pytest.mark.parametrize(
    "arguments",
    [("--top-k", "3", "--top-k", "4"), ("--top_k=3", "--top-k", "4"), ("--top-k", "3", "m", "--top-k=3")],
)
def test_an_option_of_one_value_is_not_given_twice(arguments):
    with pytest.raises(UsageError, match="--top-k is given 2 times, as '3' and"):
        parsed(*arguments)


@pytest.mark.parametrize("verb", verbs(), ids=VERBS)
def test_no_verb_loses_an_option(capsys, verb):
    """Also of the common ones, and with --json as an error of its own."""
    for option in options(verb):
        if option.name and not option.switch and not option.many:
            twice = (f"--{option.name}", "1", f"--{option.name}=2")
            result = command(capsys, verb.__name__.lower(), *twice, "--json")
            assert (result.status, "2 times" in result.json["error"] or "twice" in result.json["error"]) == (
                2,
                True,
            )


def test_settings_of_named_parts_can_be_options(capsys, tmp_path):
    words = ["smoke", "--model.image_size", "16", "--plan.a-b=2", "--model", "x"]
    assert gathered(words, (Train,)) == [
        "smoke",
        "--set",
        "model.image_size=16",
        "plan.a_b=2",
        "--model",
        "x",
    ]
    assert gathered(["codes.yaml", "--out", "a"], (Train,)) == ["codes.yaml", "--out", "a"], (
        "a file, not --codes"
    )
    assert gathered(["smoke", "--model.width"], (Train,)) == ["smoke", "--model.width"], "a value is missing"
    result = command(capsys, "train", "smoke", "--model.vocabb", "7", "--out", tmp_path / "out")
    failing(result, "vocabb", "vocab", status=2)


@pytest.mark.parametrize("verb", verbs(), ids=VERBS)
def test_of_every_option_it_is_known_whether_it_is_a_path(verb):
    hints = typing.get_type_hints(verb)
    texts = [option for option in options(verb) if "str" in str(hints[option.field])]
    choices = {option.metavar for option in texts if option.metavar.islower()}
    assert {option.metavar for option in texts} - choices <= PLACES | NO_PATHS
    assert all(option.metavar or option.field == "device" for option in texts)


def test_options_are_read_from_the_class():
    assert [option.name for option in options(Verb)] == ["", "top-k", "class", "out", "greedy"]
    assert next(options(Verb)) == Option("model", "", "MODEL", False, False)


def test_paths_are_filled_in_wherever_they_are_typed(capsys, tmp_path, monkeypatch):
    home = tiny_models(tmp_path / "home")
    for name in ("HOME", "MINE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(tmp_path)
    (home / "pics" / "a").mkdir(parents=True)
    for i in range(4):
        picture(home / "pics" / "a" / f"{i}.png", seed=i)
    assert with_paths(Verb(model="~/x", classes=("~",), out="$MINE/y")) == Verb(
        model=f"{home}/x", classes=("~",), out=f"{home}/y"
    )
    common = ("--threads", 1)
    done = command(
        capsys, "generate", "~/gen", "--tokenizer", "~/tok", "--init", "~/pics/a/0.png", "--keep", "top", "--num", 1,
        "--out", "$MINE/out", *common,
    )  # fmt: skip
    assert done.status == 0, done.err
    drawn = next((home / "out").glob("0000*.png"))
    assert (
        command(capsys, "generate", "--like", f"~/out/{drawn.name}", "--out", "~/again", *common).status == 0
    )
    for verb in (
        ("reconstruct", "~/pics", "--tokenizer", "~/tok", "--out", "~/rec"),
        (
            "evaluate",
            "~/pics",
            "--reference",
            "$MINE/pics",
            "--metrics",
            "kid",
            "--bootstrap",
            0,
            "--out",
            "~/figures",
        ),
        ("tokenize", "~/pics", "--tokenizer", "~/tok", "--out", "~/codes"),
        ("data", "show", "~/pics", "--out", "~/sheet.png"),
        ("convert", "~/tok", "~/small", "--bits", 8),
        ("checkpoints", "verify", "~/tok"),
        ("checkpoints", "export", "$MINE/tok", "~/tok.tar"),
        ("leaderboard", "~/gen"),
    ):
        done = command(capsys, *verb)
        assert done.status == 0, (verb, done.err)
    assert not list(tmp_path.glob("~*"))
    assert not list(tmp_path.glob("$*"))
    for name in (
        "rec/grid.png",
        "figures/evaluation.json",
        "codes/train/index.json",
        "small/model_index.json",
    ):
        assert (home / name).exists(), name
    assert json.loads((home / "out" / "run.json").read_text())["status"] == "finished"
    assert Path(home / "sheet.png").exists()
