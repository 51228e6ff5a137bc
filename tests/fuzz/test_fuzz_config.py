"""Configs, YAML and JSON of any kind: a value, or one message."""

from __future__ import annotations

import dataclasses
import json

import pytest
from fuzz.settings import PLAIN, SCALARS, examples, only_ours
from hypothesis import given
from hypothesis import strategies as st

from arzoo.base.config import Config, load_yaml
from arzoo.base.errors import ArzooError
from arzoo.base.files import seal
from arzoo.checkpoints.index import control_of, plan_of, read_index
from arzoo.core.control import Control
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.tokenizers.vq.network import VQTokenizerConfig
from arzoo.train.recipe import Recipe, load_recipe
from arzoo.train.settings import OptimConfig, RunConfig

CONFIGS = (Recipe, TransformerConfig, VQTokenizerConfig, OptimConfig, RunConfig)


def mappings(cls: type[Config]) -> st.SearchStrategy[dict]:
    """Settings with true names and any value, and some with other names."""
    names = st.sampled_from([field.name for field in dataclasses.fields(cls)])
    return st.dictionaries(names | st.text(max_size=6), PLAIN, max_size=5)


@examples(250)
@given(st.data())
def test_configs_of_anything(data):
    cls = data.draw(st.sampled_from(CONFIGS))
    given_settings = data.draw(mappings(cls))
    with only_ours():
        config = cls.from_dict(given_settings)
        again = cls.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config
        assert again.hash() == config.hash()
        for name, value in given_settings.items():
            kept = getattr(config, name)
            assert kept == value or isinstance(kept, (tuple, Config)), "a setting was changed silently"


@examples(250)
@given(
    st.text(alphabet=st.sampled_from("ab01:-[]{}&*!|>#'\"\n\t ,?%@.eE_\\"), max_size=40)
    | st.text(max_size=30)
)
def test_yaml_of_anything(text):
    with only_ours():
        plain(load_yaml(text + "\n"))


def plain(data: object) -> None:
    """What is read has the types of JSON, and days and times."""
    json.dumps(data, default=lambda value: value.isoformat())


@pytest.mark.parametrize(
    "text",
    ["[" * 20000, "{a: " * 5000, "2020-99-99", "9" * 5000, "0b2", "&a [*a]", "!!python/object:os.system {}",
     "? [a]\n: 1",
     "!!binary x", "!!int x", "!!timestamp x", "\x00", "12:99:99", "!!set [a]", "<<: 3", "1e99999"],
)  # fmt: skip
def test_yaml_that_is_known_to_hurt(text):
    with only_ours():
        written_again(Recipe.from_dict(load_yaml(f"task: tokenizer\ndata: {text}\n")))
    with only_ours():
        load_yaml(text + "\n")  # may hold itself, which settings refuse


@examples(60)
@given(st.binary(max_size=60) | PLAIN.map(lambda data: json.dumps(data, default=str).encode()))
def test_recipes_of_anything(tmp_path, content):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with only_ours():
        written_again(load_recipe(str(path)))


def written_again(recipe: Recipe) -> None:
    """A recipe that is read can be written, and is the same when it is read again."""
    assert Recipe.from_dict(load_yaml(recipe.to_yaml())) == recipe


@examples(100)
@given(
    st.lists(
        st.text(max_size=10)
        | st.tuples(st.sampled_from(["run", "run.steps", "a..b", "="]), st.text(max_size=8)).map("=".join),
        max_size=4,
    )
)
def test_settings_on_the_command_line(texts):
    with only_ours():
        written_again(load_recipe("smoke", typed=texts))


INDEX = {
    "format": 1, "kind": "generator", "parts": {"backbone": {"parameters": 1, "sha256": "0" * 64, "weights": "0" * 64}},
    "plan": {"name": "raster", "options": {}}, "controls": {"guidance": 2.0}, "classes": ["a"],
    "tokenizer": {"name": "t"},
    "training": {},
}  # fmt: skip


@examples(250)
@given(st.sampled_from([*INDEX, "spec"]), PLAIN, st.booleans())
def test_indexes_of_anything(tmp_path, key, value, sealed):
    index = {**INDEX, key: value}
    text = json.dumps({**index, "seal": seal(index)} if sealed else index)
    (tmp_path / "model_index.json").write_text(text)
    with only_ours():
        found = read_index(tmp_path)
        name, options = plan_of(found, tmp_path)
        assert (type(name), type(options)) == (str, dict)
        assert isinstance(control_of(found, tmp_path), Control)


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from(["guidance", "top_k", "greedy", "interval", "solver", "x"]), SCALARS, max_size=3
    )
)
def test_knobs_of_anything(tmp_path, knobs):
    with only_ours():
        control = control_of({"controls": knobs}, tmp_path)
        assert all(getattr(control, name) == value for name, value in knobs.items())


def test_the_index_is_not_read_when_it_was_changed(tmp_path):
    text = json.dumps({**INDEX, "seal": seal(INDEX)})
    (tmp_path / "model_index.json").write_text(text.replace("2.0", "7.0"))
    with pytest.raises(ArzooError, match="changed"):
        read_index(tmp_path)
