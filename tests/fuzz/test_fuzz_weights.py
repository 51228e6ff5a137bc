"""Checkpoints and published files with flipped bytes, cut short, of other shapes and types: never another result."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from command import tiny_models
from fuzz.settings import cuts, examples, flips, only_ours
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256, seal
from arzoo.checkpoints.archive import pack
from arzoo.checkpoints.folder import load_parts, weights_sha256
from arzoo.generation.generator import Generator
from arzoo.models.common.convert import convert_file
from arzoo.models.common.weight_file import read_weights


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tiny_models(tmp_path_factory.mktemp("models"))
    pack(folder / "tok", folder / "tok.tar")
    return folder


@pytest.fixture
def copy(models, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    shutil.copytree(models, tmp_path / "models")
    return tmp_path / "models"


def values(folder: Path) -> str:
    """Everything that a checkpoint says and holds, in short."""
    checkpoint, parts = load_parts(folder)
    said = {key: value for key, value in checkpoint.index.items() if key != "seal"}
    return json.dumps([said, {name: weights_sha256(part) for name, part in parts.items()}], sort_keys=True)


FILES = ("model_index.json", "tokenizer/config.json", "tokenizer/model.safetensors", "metrics.json")


@examples(60)
@given(st.data())
def test_a_damaged_checkpoint_loads_as_it_was_or_not_at_all(copy, data):
    folder = copy / "tok"
    path = folder / data.draw(st.sampled_from(FILES))
    whole, before = path.read_bytes(), values(folder)
    path.write_bytes(data.draw(flips(whole) | cuts(whole)))
    try:
        with only_ours():
            assert values(folder) == before
    finally:
        path.write_bytes(whole)


def vouch(folder: Path, part: str) -> None:
    """Make the index name the weights that are there, as somebody who means harm would."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index["parts"][part]["sha256"] = file_sha256(folder / part / "model.safetensors")
    path.write_text(json.dumps({**index, "seal": seal(index)}))


@examples(60)
@given(st.data())
def test_files_that_the_index_vouches_for(copy, data):
    """Damage in the header of safetensors is found by shapes and types, without the help of hashes."""
    folder = copy / "tok"
    path = folder / "tokenizer" / "model.safetensors"
    whole = path.read_bytes()
    size = 8 + int.from_bytes(whole[:8], "little")
    header = data.draw(flips(whole[:size]) | cuts(whole[:size]))
    path.write_bytes(header + whole[size:] if len(header) == size else header)
    vouch(folder, "tokenizer")
    with only_ours():
        parts = load_parts(folder)[1]
        state = parts["tokenizer"].state_dict()
        assert state.keys() == load_file(path).keys()
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "change", ["transposed", "shorter", "integers", "absent", "more", "renamed", "empty"]
)
def test_wrong_tensors_that_the_index_vouches_for(copy, change):
    path = copy / "gen" / "head" / "model.safetensors"
    state = load_file(path)
    name = next(name for name, value in state.items() if value.dim() == 2 and len(set(value.shape)) == 2)
    value = state[name]
    if change == "absent":
        del state[name]
    elif change == "renamed":
        state[name + "x"] = state.pop(name)
    elif change == "more":
        state["more"] = torch.zeros(1)
    else:
        new = {
            "transposed": value.T.contiguous(),
            "shorter": value[1:].contiguous(),
            "integers": value.to(torch.int16),
        }
        state[name] = new.get(change, value[:0])
    save_file(state, path)
    vouch(copy / "gen", "head")
    with pytest.raises(ArzooError, match="does not fit"):
        Generator.load(copy / "gen")


@examples(40)
@given(st.data())
def test_damaged_archives(copy, data):
    path = copy / "tok.tar"
    whole = path.read_bytes()
    before = values(path)
    path.write_bytes(data.draw(flips(whole) | cuts(whole)))
    try:
        with only_ours():
            assert values(path) == before
    finally:
        path.write_bytes(whole)
    assert {p.parent for p in copy.parent.rglob("model_index.json")} - {copy / "tok", copy / "gen"} <= {
        p.parent for p in (copy.parent / "cache" / "unpacked").rglob("*")
    }


@functools.cache
def published(kind: str) -> bytes:
    import io

    state = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}
    if kind == "safetensors":
        return save(state)
    file = io.BytesIO()
    torch.save({"model": state}, file, _use_new_zipfile_serialization=kind == "pt")
    return file.getvalue()


@examples(150)
@given(st.data(), st.sampled_from(["safetensors", "pt", "pth"]))
def test_published_files(tmp_path, data, kind):
    whole = published(kind)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(data.draw(flips(whole) | cuts(whole) | st.binary(max_size=50)))
    with only_ours():
        state = read_weights(path).state
        assert all(isinstance(value, torch.Tensor) for value in state.values())
    with pytest.raises(ArzooError):
        convert_file(path)  # of no known layout, damaged or not
