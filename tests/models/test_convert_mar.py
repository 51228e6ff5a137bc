"""Converter of MAR without recordings: strict, and its own inverse."""

from __future__ import annotations

import pytest
import torch
from command import command
from continuous import patches

from arzoo.base.errors import ArzooError
from arzoo.generation.generator import Generator
from arzoo.models.common.convert import convert_file, convert_state, split
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.mar.convert import mar_table
from arzoo.models.mar.network import MARConfig

BACKBONE = MARConfig(
    width=32, depth=2, heads=2, decoder_width=48, decoder_depth=1, decoder_heads=2, mlp_ratio=2.0, channels=48,
    grid=(1, 4, 4), classes=3, buffer=5,
)  # fmt: skip
HEAD = DiffusionMLPConfig(width=48, channels=48, hidden=24, depth=2)


def published(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights in the published layout."""
    torch.manual_seed(seed)
    parts = {"backbone": BACKBONE.build(), "head": HEAD.build()}
    weights = {f"{part}.{name}": w for part, m in parts.items() for name, w in m.state_dict().items()}
    return split(weights, mar_table(BACKBONE, HEAD))


def test_sizes_are_read_from_shapes_and_the_inverse_gives_the_file_back():
    state = published()
    found = convert_state(state, heads=2)
    assert found.source == "mar"
    assert found.parts["backbone"].config == BACKBONE
    assert found.parts["head"].config == HEAD
    assert found.plan == {"name": "masked", "options": {"steps": 64}}
    weights = {f"{part}.{name}": w for part, m in found.parts.items() for name, w in m.state_dict().items()}
    back = split(weights, mar_table(BACKBONE, HEAD))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_nothing_is_lost_and_nothing_unused():
    state = published()
    with pytest.raises(ArzooError, match=r"unknown: encoder_blocks\.0\.attn\.q_norm"):
        convert_state({**state, "encoder_blocks.0.attn.q_norm": torch.zeros(1)}, "mar", heads=2)
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({key: w for key, w in state.items() if key != name}, "mar", heads=2)
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        convert_state({**state, "encoder_norm.weight": torch.zeros(31)}, "mar", heads=2)


def test_what_shapes_do_not_say():
    state = published()
    with pytest.raises(ArzooError, match=r"width 32 .* is not known .* set heads"):
        convert_state(state)
    found = convert_state(state, heads=4, decoder_heads=6, grid=(2, 8), steps=8)
    assert found.parts["backbone"].config.decoder[2] == 6
    assert found.parts["backbone"].config.grid == (1, 2, 8)
    assert found.plan["options"] == {"steps": 8}
    cut = {name: w[:, :-1] if "pos_embed" in name else w for name, w in state.items()}
    with pytest.raises(ArzooError, match="15 tokens make no square"):
        convert_state(cut, heads=2)
    with pytest.raises(ArzooError, match="does not take these settings"):
        convert_state(state, window=3)


def test_averaged_weights_come_first_and_a_converted_file_draws(capsys, tmp_path):
    averaged = published(1)
    torch.save({"model": published(), "model_ema": averaged, "epoch": 3}, tmp_path / "checkpoint-last.pth")
    found = convert_file(tmp_path / "checkpoint-last.pth", heads=2)
    assert torch.equal(found.parts["backbone"].null, averaged["fake_latent"])
    options = ["--set", "heads=2", "steps=3", "--tokenizer", patches(tmp_path / "tok"), "--json"]
    done = command(capsys, "convert", tmp_path / "checkpoint-last.pth", tmp_path / "mar", *options)
    assert done.status == 0, done.err
    assert done.json["parts"]["head"]["class"] == "DiffusionMLP"
    model = Generator.load(tmp_path / "mar", tokenizer=tmp_path / "tok")
    drawing = command(
        capsys,
        "generate",
        tmp_path / "mar",
        "--tokenizer",
        tmp_path / "tok",
        "--num",
        1,
        "--head-steps",
        "4:2",
        "--out",
        tmp_path / "a",
        "--json",
    )
    assert drawing.status == 0, drawing.err
    assert drawing.json["head_calls_per_picture"] == sum([4, 3, 2])
    assert len(model.plan()) == 3
