"""What version 0.1 wrote is read: every shipped checkpoint under the names its classes had then."""

import json
import shutil

import pytest
import torch

from arzoo.base.files import file_sha256, seal
from arzoo.checkpoints.folder import load_parts
from arzoo.checkpoints.index import control_of
from arzoo.checkpoints.migrations import CLASSES, class_path
from arzoo.checkpoints.names import BUNDLED

FORMER = {now: then for then, now in CLASSES.items()}
OF_0_1 = (
    "kl_emoji64", "mar_emoji64", "nar_emoji64", "nar_emoji64_text", "raster_emoji64", "vq_emoji64", "xar_emoji64"
)  # fmt: skip
"""Checkpoints that version 0.1 shipped."""


def with_former_names(name: str, folder) -> None:
    """A copy of a shipped checkpoint whose parts name their classes as version 0.1 did."""
    shutil.copytree(BUNDLED / name, folder)
    index = json.loads((folder / "model_index.json").read_text())
    for part in index["parts"]:
        path = folder / part / "config.json"
        stored = json.loads(path.read_text())
        stored["class"] = FORMER[class_path(stored["class"])]
        path.write_text(json.dumps(stored))
        index["parts"][part]["config"] = file_sha256(path)
    index["seal"] = seal(index)
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", OF_0_1)
def test_checkpoints_of_version_0_1_load(name, tmp_path):
    with_former_names(name, tmp_path / name)
    (_, old), (_, new) = load_parts(tmp_path / name), load_parts(name)
    assert old.keys() == new.keys()
    for part in new:
        states = old[part].state_dict(), new[part].state_dict()
        assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ([0, 999], (0, 1)),
        ([499.5, 999.0], (0.5, 1)),
        ([0, 1000], (0, 1)),
        ([0.0, 0.8], (0, 0.8)),
        (None, None),
    ],
)
def test_timesteps_of_a_diffusion_heads_interval_become_shares_of_noise(then, now, tmp_path):
    assert control_of({"controls": {"guidance": 2.0, "interval": then}}, tmp_path).interval == now


def test_every_former_name_leads_to_a_class():
    import importlib

    for now in CLASSES.values():
        module, _, cls = now.rpartition(".")
        assert hasattr(importlib.import_module(module), cls)
