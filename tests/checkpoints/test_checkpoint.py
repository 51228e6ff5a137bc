"""Checkpoint folders: round trip, damage, foreign files, other tokenizers."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from arzoo.base import allowance
from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.files import seal
from arzoo.checkpoints import folder as checkpoint
from arzoo.checkpoints import names
from arzoo.checkpoints.lookup import tokenizer_of


@dataclass(frozen=True, kw_only=True)
class LineConfig(Config):
    width: int = 4
    bias: bool = True

    def build(self) -> Line:
        return Line(self)


class Line(nn.Module):
    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.width, 2, bias=config.bias)
        self.tied = self.layer
        self.register_buffer("count", torch.tensor(3))


FACTS = {"spec": {"layout": {"grid": [1, 2, 2]}}, "plan": {"name": "raster"}, "classes": ["a", "b"]}


def saved(folder, seed=0, config=LineConfig(), **options):
    torch.manual_seed(seed)
    parts = {"tokenizer": Line(config)}
    return checkpoint.save_parts(folder, "tokenizer", parts, **FACTS, **options), parts["tokenizer"]


@pytest.mark.parametrize("bits", [16, 32])
def test_round_trip(tmp_path, bits):
    written, module = saved(
        tmp_path / "a", bits=bits, metrics={"psnr": {"value": 20.1, "n": 5}}, record={"seed": 1}
    )
    found, parts = checkpoint.load_parts(tmp_path / "a", "tokenizer")
    assert found == written
    assert (found.kind, found.index["plan"], found.metrics) == (
        "tokenizer",
        {"name": "raster"},
        written.metrics,
    )
    for name, value in module.state_dict().items():
        expected = value.half().float() if bits == 16 and value.is_floating_point() else value
        assert torch.equal(parts["tokenizer"].state_dict()[name], expected)
    assert parts["tokenizer"].layer.weight.dtype == torch.float32
    assert not parts["tokenizer"].training
    assert found.parts["tokenizer"]["weights"] == checkpoint.weights_sha256(parts["tokenizer"])
    card = (tmp_path / "a" / "README.md").read_text()
    assert "psnr | 20.1 | n 5" in card
    assert "Line | 10" in card
    assert not list(tmp_path.glob(".*"))


def test_hash_of_weights_sees_values_names_and_shapes():
    line = Line(LineConfig())
    base = checkpoint.weights_sha256(line)
    state = line.state_dict()
    assert checkpoint.weights_sha256(state) == base
    assert checkpoint.weights_sha256({**state, "layer.bias": state["layer.bias"] + 1}) != base
    assert checkpoint.weights_sha256({**state, "x": state["layer.bias"]}) != base
    assert checkpoint.weights_sha256({"a": torch.zeros(2, 3)}) != checkpoint.weights_sha256(
        {"a": torch.zeros(3, 2)}
    )


def test_existing_folders_stay_unless_overwritten(tmp_path):
    saved(tmp_path / "a")
    with pytest.raises(ArzooError, match="not empty"):
        saved(tmp_path / "a", seed=1)
    written, _ = saved(tmp_path / "a", seed=1, overwrite=True)
    assert checkpoint.open_checkpoint(tmp_path / "a") == written


def test_a_failed_write_leaves_what_was_there(tmp_path):
    written, _ = saved(tmp_path / "a")
    bad = {"tokenizer": Line(LineConfig()), "plain": nn.Linear(1, 1)}
    with pytest.raises(ArzooError, match=r"'plain'.*no config"):
        checkpoint.save_parts(tmp_path / "a", "tokenizer", bad, overwrite=True)
    assert checkpoint.open_checkpoint(tmp_path / "a") == written
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_wrong_requests(tmp_path):
    line = Line(LineConfig())
    with pytest.raises(ArzooError, match="'model'"):
        checkpoint.save_parts(tmp_path / "a", "model", {"tokenizer": line})
    with pytest.raises(ArzooError, match="8, 16 or 32 bits, got 4"):
        checkpoint.save_parts(tmp_path / "a", "tokenizer", {"tokenizer": line}, bits=4)
    saved(tmp_path / "a")
    with pytest.raises(ArzooError, match="is a tokenizer, a generator is needed"):
        checkpoint.open_checkpoint(tmp_path / "a", "generator")
    with pytest.raises(ArzooError, match=r"no part 'backbone'.*tokenizer"):
        checkpoint.open_checkpoint(tmp_path / "a").load("backbone")


def damage_truncate(folder):
    path = folder / "tokenizer" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def damage_garbage(folder):
    """Garbage whose hash the index vouches for."""
    path = folder / "tokenizer" / "model.safetensors"
    path.write_bytes(b"garbage")
    index = json.loads((folder / "model_index.json").read_text())
    index["parts"]["tokenizer"]["sha256"] = checkpoint.file_sha256(path)
    rewrite(folder, index)


def rewrite(folder, index):
    """An index that vouches for itself."""
    (folder / "model_index.json").write_text(json.dumps({**index, "seal": seal(index)}))


def damage_edit(**changes):
    def edit(folder):
        index = json.loads((folder / "model_index.json").read_text())
        rewrite(folder, {**index, **changes})

    return edit


def damage_index(folder):
    """One word of the index."""
    path = folder / "model_index.json"
    path.write_text(path.read_text().replace('"raster"', '"rester"'))


def damage_config(**changes):
    def edit(folder):
        path = folder / "tokenizer" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        index = json.loads((folder / "model_index.json").read_text())
        index["parts"]["tokenizer"]["config"] = checkpoint.file_sha256(path)
        rewrite(folder, index)

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "damaged or was exchanged.*again"),
        (damage_garbage, "not a safetensors file"),
        (lambda f: (f / "tokenizer" / "model.safetensors").unlink(), "cannot read"),
        (lambda f: (f / "tokenizer" / "config.json").unlink(), "cannot read"),
        (lambda f: (f / "model_index.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "model_index.json").write_text("[]"), "arzoo convert"),
        (damage_index, "changed after it was written"),
        (damage_edit(format=2), "pip install --upgrade"),
        (lambda f: (f / "tokenizer" / "config.json").write_text("{}"), "not the file the index names"),
        (damage_config(config={"width": 5}), "does not fit the settings beside it"),
        (damage_config(config={"width": 1 << 40}), "does not fit the settings beside it"),
        (damage_config(config=[]), "no settings"),
        (damage_config(**{"class": "arzoo"}), "newer"),
        (damage_edit(parts={"../b": {}}), "no name of a part"),
        (damage_edit(kind="model"), "its kind is 'model'"),
        (damage_edit(classes={}), "'classes' is a dict"),
        (damage_config(config={"widht": 5}), "'width'"),
        (damage_config(**{"class": "arzoo.no_such.Thing"}), "newer"),
        (damage_config(**{"class": "os.system"}), "not here"),
    ],
)
def test_damage_is_explained(tmp_path, damage, message, monkeypatch):
    monkeypatch.setattr(checkpoint.registry, "names", lambda kind: [])
    saved(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(ArzooError, match=message):
        checkpoint.load_parts(tmp_path / "a")


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor in memory."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "cpu":
            self.bytes = max(self.bytes, result.nbytes)
        return result


def test_three_times_the_width_is_refused_before_memory_is_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "_SLACK", 64)
    saved(tmp_path / "a", config=LineConfig(width=1000))
    damage_config(config={"width": 3000})(tmp_path / "a")
    built, build = [], LineConfig.build
    monkeypatch.setattr(LineConfig, "build", lambda config: (built.append(build(config)), built[-1])[1])
    with Largest() as largest, pytest.raises(ArzooError, match=r"1000, 'float'\), not \(2, 3000, 'float'"):
        checkpoint.load_parts(tmp_path / "a")
    assert [module.layer.weight.device.type for module in built] == ["meta"]
    assert largest.bytes <= 8 * 1000


def test_what_fits_is_loaded_although_it_makes_large_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "_SLACK", -1000)
    _, module = saved(tmp_path / "a")
    loaded = checkpoint.load_parts(tmp_path / "a")[1]["tokenizer"]
    assert torch.equal(loaded.layer.weight, module.layer.weight)


def test_resolve(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "BUNDLED", tmp_path / "bundled")
    saved(tmp_path / "bundled" / "line.tiny")
    saved(tmp_path / "run" / "checkpoint")
    assert names.bundled() == ["line.tiny"]
    assert names.bundled("generator") == []
    assert names.resolve("line.tiny") == tmp_path / "bundled" / "line.tiny"
    assert names.resolve(tmp_path / "run") == tmp_path / "run" / "checkpoint"
    assert names.listing(tmp_path).keys() == {"bundled/line.tiny", "run/checkpoint"}
    with pytest.raises(UnknownName, match=r"'line.tiny'.*arzoo models"):
        names.resolve("line.tin")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "model.pt").touch()
    for path in (tmp_path / "foreign", tmp_path / "model.pt", tmp_path / "none.safetensors"):
        with pytest.raises(ArzooError, match="arzoo convert"):
            names.resolve(path)


def test_the_hub(tmp_path, monkeypatch):
    saved(tmp_path / "a")
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append((name, revision))
        if name == "org/none":
            raise OSError("404")
        return str(tmp_path if name == "org/foreign" else tmp_path / "a")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.setattr(names, "addresses", calls := [])
    assert names.resolve("hf-hub:org/name@v1") == tmp_path / "a"
    assert asked == [("org/name", "v1")]
    assert calls == ["https://huggingface.co/org/name"]
    with pytest.raises(ArzooError, match="404"):
        names.resolve("hf-hub:org/none")
    with pytest.raises(ArzooError, match="no model_index"):
        names.resolve("hf-hub:org/foreign")


def test_another_tokenizer_is_refused(tmp_path):
    tokenizer, module = saved(tmp_path / "tok")
    saved(tmp_path / "other", seed=1)
    wanted = {"name": "tok", "sha256": checkpoint.weights_sha256(module)}
    generator = checkpoint.save_parts(
        tmp_path / "gen", "generator", {"backbone": Line(LineConfig())}, tokenizer=wanted
    )
    assert tokenizer_of(generator) == tokenizer
    with pytest.raises(ArzooError, match=r"trained on tokenizer 'tok'.*arzoo tokenize"):
        tokenizer_of(generator, tmp_path / "other")
    alone = checkpoint.save_parts(tmp_path / "alone", "generator", {"backbone": Line(LineConfig())})
    assert tokenizer_of(alone, tmp_path / "other").folder == tmp_path / "other"
    with pytest.raises(ArzooError, match="does not say which tokenizer"):
        tokenizer_of(alone)
