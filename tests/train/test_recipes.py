"""Recipes: parts with settings of their own, settings as people type them, and recipes of version 0.1."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest
from command import command, failing

from arzoo.base.config import Named, load_yaml
from arzoo.base.errors import ArzooError, UsageError
from arzoo.cli.settings import chosen
from arzoo.cli.train import Train
from arzoo.train.migrations import migrated
from arzoo.train.recipe import Recipe, load_recipe, recipes
from arzoo.train.run.lineage import differences

OLD = Path(__file__).parent / "recipes_0_1"


@pytest.mark.parametrize("name", sorted(path.stem for path in OLD.glob("*.yaml")))
def test_recipes_of_version_0_1_are_those_of_today(name, tmp_path):
    """Text of every recipe that was shipped then; Muon takes by itself what two of them named."""
    old, new = load_recipe(str(OLD / f"{name}.yaml")), load_recipe(name)
    assert old.replace(optim={"matrices": []}) == new
    again = tmp_path / "recipe.yaml"
    again.write_text(new.to_yaml())
    assert load_recipe(str(again)) == new, "what a run writes can be read"


def test_a_saved_run_of_version_0_1_has_the_same_settings():
    saved = load_yaml(OLD / "mar_emoji64.yaml") | {
        "width": 0,
        "depth": 2,
        "plan_options": {"steps": 8, "size": 0},
    }
    saved["optim"] |= {"matrices": ["*blocks.*"]}
    now = load_recipe("mar_emoji64", {"model": {"depth": 2}, "plan": {"steps": 8}}).to_dict()
    assert differences(migrated(saved), now) == []


@pytest.mark.parametrize(
    "data",
    [
        {"dropout": "much"},
        {"plan_options": 3},
        {"model": {"name": "mar_tiny"}, "width": 3},
        {"head": 5},
    ],
)
def test_what_is_wrong_in_an_old_recipe_is_not_hidden(data):
    with pytest.raises(ArzooError):
        Recipe.from_dict(migrated({"task": "generator", "tokenizer": "t", "model": "mar_tiny"} | data))


def test_parts_are_named_or_have_settings():
    recipe = load_recipe(
        "mar_emoji64", {"model": {"width": 96}, "heads": [{"name": "flow_mlp_tiny", "depth": 2}]}
    )
    assert recipe.model == Named(name="mar_tiny", settings={"dropout": 0.0, "width": 96})
    assert recipe.heads == (Named(name="flow_mlp_tiny", settings={"depth": 2}),)
    assert recipe.to_dict()["plan"] == {"name": "masked", "steps": 16}
    assert recipe.replace(plan="raster").plan == Named(name="raster"), "another plan begins without options"
    assert recipe.replace(plan={"name": "cells", "regions": 2}).plan.settings == {"regions": 2}


TYPED = {
    "data=pics #1": ("data", "pics #1"),
    "data=2024": ("data", "2024"),
    "init=no": ("init", "no"),
    "tokenizer=1e-3": ("tokenizer", "1e-3"),
    "limit=12": ("limit", 12),
    "balance=1e-1": ("balance", 0.1),
    "variants=0": ("variants", 0),
}


@pytest.mark.parametrize("text", TYPED)
def test_values_are_read_by_the_type_of_their_setting(text):
    name, value = TYPED[text]
    assert getattr(load_recipe("smoke", typed=[text]), name) == value


def test_settings_of_parts_are_typed_like_all_others():
    recipe = load_recipe(
        "xar_emoji64",
        typed=["plan.regions=4", "model.width=96", "heads.0.head_steps=9", "optim.betas=[0.8, 0.9]"],
    )
    assert recipe.model.settings == {"dropout": 0.05, "width": 96}
    assert (recipe.plan.settings, recipe.heads[0].settings) == ({"regions": 4}, {"head_steps": 9})
    assert recipe.optim.betas == (0.8, 0.9)
    other = load_recipe(
        "xar_emoji64", typed=["plan.stride=2", "plan=subsamples", "heads=", "model={name: xar_tiny}"]
    )
    assert (other.plan, other.heads, other.model) == (
        Named(name="subsamples", settings={"stride": 2}), (), Named(name="xar_tiny"),
    )  # fmt: skip
    assert load_recipe("nar_emoji64", typed=["heads=[{name: categorical}]"]).heads == (
        Named(name="categorical"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model.widht=3", "backbone 'mar_tiny' has no setting 'widht'. Did you mean 'width'"),
        ("plan.step=3", "plan 'masked' has no setting 'step'. Did you mean 'steps'"),
        ("heads.0.hiden=3", "'hidden'"),
        ("heads.1.depth=3", "set heads.1.name as well"),
        ("heads.3=categorical", "there are 1 parts"),
        ("run.setps=3", "Did you mean 'steps'"),
        ("modell=x", "Did you mean 'model'"),
        ("model=mar_tny", "'mar_tiny'"),
        ("model.width=wide", "'model.width' must be int"),
        ("model.width=-1", "model.width must be finite and at least 0"),
        ("model.dropout=2", "model.dropout must be from 0 to 1"),
        ("width=96", "has another name now: model.width"),
        ("heads=[categorical, categorical]", "Give one"),
        ("run.steps", "is not KEY=VALUE"),
    ],
)
def test_wrong_settings_are_refused_with_the_nearest_ones(text, words):
    with pytest.raises(UsageError) as refusal:
        load_recipe("mar_emoji64", typed=[text])
    assert words in str(refusal.value)


def test_every_setting_is_an_option(capsys):
    shown = command(capsys, "train", "--help").out
    for option in ("--run.steps INT", "--model NAME", "--optim.name adamw|muon", "--run.compile true|false"):
        assert option in shown
    names = {field.name for field in fields(Train)}
    assert {field.name for field in fields(Recipe)} - names == {
        "augment", "loss", "codebook", "karl", "generator", "value", "segmenter", "optim", "run",
    }  # fmt: skip
    options = Train(recipe="smoke", run__log_every="5", data="2024")
    assert chosen(options, Recipe) == ["data=2024", "run.log_every=5"]


def test_help_needs_no_torch():
    import subprocess

    lines = "import sys, arzoo.cli.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines]).returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--run.steps", "3", "--run.steps", "4"),
        ("run.steps=3", "--run.steps", "4"),
        ("--set", "run.steps=3", "run.steps=3"),
    ],
)
def test_a_setting_is_given_once(capsys, options):
    failing(command(capsys, "train", "smoke", *options), "run.steps", "give it once", status=2)


def test_shipped_recipes_are_those_of_version_0_1_and_later():
    assert {path.stem for path in OLD.glob("*.yaml")} <= recipes().keys()
