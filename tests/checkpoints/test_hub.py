"""Sharing: folders, and a hub on loopback that speaks huggingface_hub's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import tiny_generator, tiny_tokenizer
from hub_server import hub
from scripted import ROOT

import arzoo
from arzoo.base.errors import ArzooError
from arzoo.checkpoints import names
from arzoo.core.contracts import Tokenizer
from arzoo.generation.generator import Generator


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no_hub"))
    monkeypatch.chdir(tmp_path)
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    return tmp_path


def test_a_saved_folder_needs_nothing_beside_it(models):
    model = Generator.from_pretrained("gen")
    model.save_pretrained("elsewhere/mine", metrics={"fd": {"value": 3.5, "n": 10}}, record={"seed": 4})
    (models / "tok").rename(models / "gone")
    again = Generator.from_pretrained("elsewhere/mine")
    assert torch.equal(again.generate([0, 1]), model.generate([0, 1]))
    assert isinstance(Tokenizer.from_pretrained("elsewhere/mine/tokenizer"), Tokenizer)
    assert "fd | 3.5 | n 10" in Path("elsewhere/mine/README.md").read_text()
    with pytest.raises(ArzooError, match="is a generator, not a tokenizer"):
        Tokenizer.from_pretrained("elsewhere/mine")
    Path("full").mkdir()
    Path("full/mine.txt").touch()
    with pytest.raises(ArzooError, match="not a checkpoint"):
        model.save_pretrained("full")
    assert Path("full/mine.txt").exists()


def test_figures_stay_with_the_weights_they_were_measured_on(models):
    for name in ("vq_emoji64", "nar_emoji64"):
        model = arzoo.load(name)
        model.save_pretrained("copy")
        origin, saved = (arzoo.load(where).origin for where in (name, "copy"))
        assert saved.metrics == origin.metrics
        assert saved.metrics
        assert saved.index["training"] == origin.index["training"]
        assert {p: f["weights"] for p, f in saved.parts.items()} == {
            p: f["weights"] for p, f in origin.parts.items()
        }
        with torch.no_grad():
            next((model.backbone if isinstance(model, Generator) else model).parameters()).add_(1)
        model.save_pretrained("copy")
        assert arzoo.load("copy").origin.metrics == {}


def test_a_tokenizer_keeps_the_hash_its_generator_knows(models):
    """Float32 weights that float16 cannot hold are stored as they are."""
    tokenizer = Tokenizer.from_pretrained("tok")
    with torch.no_grad():
        next(tokenizer.parameters()).mul_(1.0001)
    tokenizer.save_pretrained("fine")
    again = Tokenizer.from_pretrained("fine")
    assert all(map(torch.equal, again.state_dict().values(), tokenizer.state_dict().values()))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "name",
        "a/b/c",
        "../a",
        "a/..",
        "a/b..c",
        "/a/b",
        "a/b@",
        "a/b@../c",
        "a b/c",
        "a/b\n",
        "a/b@x..y",
        "~/a",
    ],
)
def test_names_that_are_no_model_of_a_hub(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # nothing is asked
    with pytest.raises(ArzooError, match="no model of the hub"):
        names.resolve("hf-hub:" + name)


@pytest.mark.parametrize("name", ["a/b", "some-org/nar_b.v1", "a/b@main", "a/b@refs/pr/1", "a/b@0f3e"])
def test_names_that_may_be(name):
    assert names.check_repository(name) == (name.partition("@")[0], name.partition("@")[2] or None)


def client(server, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that takes the server for the hub."""
    mine = {"HF_ENDPOINT": server.address, "HF_HOME": "hf", "HF_TOKEN": "hf_test", "NO_PROXY": "*"}
    environment = {**os.environ, **mine, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_up_to_the_hub_and_down_again(models):
    code = """
import arzoo, torch
from arzoo.cli.__main__ import main
from arzoo.generation.generator import Generator
from arzoo.base.errors import ArzooError
model = Generator.from_pretrained("gen")
print(model.push_to_hub("me/nar_tiny"))
again = Generator.from_pretrained("me/nar_tiny")
assert torch.equal(again.generate([0, 2], seed=3), model.generate([0, 2], seed=3))
assert "/hub/models--me--nar_tiny/" in str(again.origin.folder)
try:
    arzoo.load("hf-hub:me/none")
except ArzooError as error:
    assert "cannot get hf-hub:me/none" in str(error), error
main(["checkpoints", "ls", "hf-hub:*", "--json"])
"""
    with hub() as server:
        done = client(server, code)
        assert done.returncode == 0, done.stderr
        address, listed = done.stdout.split("\n", 1)
        assert address.startswith(f"{server.address}/me/nar_tiny/commit/")
        assert {
            "README.md",
            "model_index.json",
            "head/model.safetensors",
            "tokenizer/model_index.json",
        } <= set(server.models["me/nar_tiny"])
        assert "POST api/repos/create" in server.asked
    (facts,) = json.loads(listed)["checkpoints"]
    assert (facts["name"], facts["where"], facts["kind"]) == ("hf-hub:me/nar_tiny", "hub", "generator")


def test_what_a_hostile_hub_sends_is_refused(models):
    """Pickles and code are not fetched, no path climbs out of the cache, exchanged weights are found."""
    code = """
import arzoo
from arzoo.base.errors import ArzooError
for name in ("evil/extra", "evil/climb", "evil/weights"):
    try:
        print("loaded", type(arzoo.load("hf-hub:" + name)).__name__)
    except ArzooError as error:
        print("refused:", " ".join(str(error).split()))
"""
    whole = {
        path.relative_to("tok").as_posix(): path.read_bytes()
        for path in Path("tok").rglob("*")
        if path.is_file()
    }
    weights = whole["tokenizer/model.safetensors"]
    with hub() as server:
        server.models["evil/extra"] = {**whole, "model.pkl": b"x", "code.py": b"x"}
        server.models["evil/climb"] = {**whole, "../../../../../climbed.json": b"{}"}
        server.models["evil/weights"] = {**whole, "tokenizer/model.safetensors": weights[:-1] + b"\1"}
        done = client(server, code)
        assert done.returncode == 0, done.stderr
        extra, climb, exchanged = done.stdout.splitlines()
        assert extra == "loaded VQTokenizer"
        assert not any("pkl" in asked or ".py" in asked for asked in server.asked)
    assert climb.startswith("refused: cannot get hf-hub:evil/climb")
    assert "is damaged or was exchanged" in exchanged
    assert not list(models.rglob("climbed.json"))
