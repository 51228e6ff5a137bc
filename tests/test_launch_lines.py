"""Every command in README, docs, recipes and help is one that runs: options, names, settings and knobs are valid."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro
from command import command
from scripted import ROOT

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.cli.__main__ import VERBS, Common, options_of
from arzoo.cli.judges import Choice
from arzoo.cli.knobs import control, plan_of
from arzoo.cli.methods import algorithm
from arzoo.cli.options import gathered, with_paths
from arzoo.cli.searches import budget_of
from arzoo.cli.settings import chosen
from arzoo.core.control import Control
from arzoo.data.base import label_of
from arzoo.data.clip_files import SUFFIXES
from arzoo.generation.regions import kept_of_clip
from arzoo.metrics.evaluation import Options
from arzoo.metrics.presets import preset
from arzoo.models.common.convert import SOURCES, settings_of
from arzoo.samplers.plans.about import about
from arzoo.train.recipe import Recipe, load_recipe, recipes

FENCED = re.compile(r"```(?:bash|sh)\n(.*?)```", re.S)
INLINE = re.compile(r"`(arzoo [a-z][^`]*)`")
SHORT = re.compile(r"\||\bNAME\b|\bSRC\b|\bSAMPLES\b|\bRECIPE\b|\bVERB\b|\.\.\.|^arzoo \w+( --help)?$")
"""Commands of text that name what stands in their place, or a verb alone."""


def lines() -> Iterator[tuple[str, str]]:
    """All commands, with where they stand."""
    pages = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    ]
    for page in pages:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found = [line for block in FENCED.findall(text) for line in block.splitlines()]
        if page.name != "log.md":  # what was run one day, with the options of that day
            found += [line for line in INLINE.findall(text) if not SHORT.search(line)]
            commands = (line.partition("  #")[0].strip() for line in found)
            yield from ((page.name, line) for line in commands if line.startswith("arzoo "))
    for name, path in recipes().items():
        comments = re.findall(r"^# ?(.*)", path.read_text(encoding="utf-8"), re.M)
        for line in re.findall(r"arzoo train \w+(?: --[\w.-]+ [\w./-]+)*", " ".join(comments)):
            yield f"recipe {name}", line.rstrip(".")
    for verb in VERBS:
        yield from ((f"help of {verb}", line) for line in verb_of(verb).examples)


def verb_of(name: str) -> Any:
    return getattr(importlib.import_module(f"arzoo.cli.{name}"), name.capitalize())


def parsed(line: str) -> Any:
    """The options of a command, as the command line reads them."""
    _, name, *options = shlex.split(line.partition(" > ")[0], comments=True)
    verb = verb_of(name)
    config = (tyro.conf.FlagCreatePairsOff,)
    whole = tyro.cli(options_of(verb), args=gathered(options, (verb, Common)), config=config)
    return with_paths(verb(**vars(whole.verb)))


LINES = sorted({line: where for where, line in lines()}.items())


@pytest.mark.parametrize("line", [line for line, _ in LINES])
def test_it_is_understood(line):
    verb = parsed(line)
    check = globals().get(f"check_{type(verb).__name__.lower()}")
    if check:
        check(verb)


def check_generate(verb: Any) -> None:
    verb.check()
    control(Control(), verb.knobs())
    if verb.keep:
        clip = Path(verb.init).suffix in SUFFIXES or verb.frames
        kept_of_clip(verb.keep, 17 if clip else 1, 64, 64)
    if verb.order:
        name, options = plan_of(verb.order)
        assert options.keys() <= {option.name for option in about(name).options}
    model = verb.model or ("nar_emoji64_text" if verb.prompts else "nar_emoji64")
    if model in bundled():
        index = open_checkpoint(model, "generator").index
        assert all(label_of(name, index["classes"]) >= 0 for name in verb.classes)
        assert bool(index.get("text")) >= bool(verb.prompts)


def check_search(verb: Any) -> None:
    verb.check()
    control(Control(), verb.knobs())
    budget_of(verb.budget)
    algorithm(verb, verb.method or "best_of_n", 16)
    for text in (*verb.verifier, *filter(None, [verb.judge, verb.rescore])):
        Choice.read(text, "--verifier")


def check_evaluate(verb: Any) -> None:
    verb.check()
    Options(verb.metrics, preset=preset(verb.preset) if verb.preset else None).check()


def check_train(verb: Any) -> None:
    load_recipe(verb.recipe, typed=[*chosen(verb, Recipe), *verb.settings, *verb.more])


def check_convert(verb: Any) -> None:
    assert verb.layout is None or verb.layout in SOURCES
    known = {name for source in SOURCES for name in settings_of(source)}
    assert all(text.partition("=")[0] in known for text in verb.settings)


@pytest.mark.parametrize(
    "line", ["arzoo checkpoints ls", "arzoo data ls", "arzoo models", "arzoo leaderboard"]
)
def test_it_runs(capsys, line):
    """Those that need no files and take no minute; the others run in tests of their own with small models."""
    assert line in {known for known, _ in LINES}
    result = command(capsys, *shlex.split(line)[1:], "--json")
    assert (result.status, bool(json.loads(result.out))) == (0, True)


def test_lines_are_found_everywhere():
    places = {where for _, where in LINES}
    assert {"README.md", "training.md", "evaluation.md", "tokenizers.md"} <= places
    assert {f"help of {verb}" for verb in VERBS} - places <= {"help of doctor"}
    assert len(LINES) > 40
    assert Path(ROOT / "README.md").exists()
