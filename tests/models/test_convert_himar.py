"""Converter of Hi-MAR without recordings: strict, and its own inverse."""

from __future__ import annotations

import pytest
import torch
from command import command

from arzoo.base.errors import ArzooError
from arzoo.core.control import Control, Progress
from arzoo.models.common import sampling
from arzoo.models.common.convert import convert_file, convert_state, split
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.dit import DiTConfig, waves
from arzoo.models.himar.convert import himar_table
from arzoo.models.himar.network import HiMARConfig

BACKBONE = HiMARConfig(
    width=32, depth=2, heads=2, decoder_depth=1, decoder_heads=2, mlp_ratio=2.0, channels=12, levels=(2, 4), classes=3,
    buffer=5,
)  # fmt: skip
HEAD = DiffusionMLPConfig(width=32, channels=12, hidden=24, depth=2)
DIT = DiTConfig(width=32, channels=12, hidden=16, depth=2, heads=4, mlp_ratio=3.0, grid=(1, 4, 4))
HEADS = {"heads": 2, "dit_heads": 4}


def published(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights in the published layout and shapes."""
    torch.manual_seed(seed)
    parts = {"backbone": BACKBONE.build(), "head": HEAD.build(), "head1": DIT.build()}
    weights = {f"{part}.{name}": w for part, m in parts.items() for name, w in m.state_dict().items()}
    state = split(weights, himar_table(BACKBONE, HEAD, DIT))
    for name, weight in state.items():
        if name.endswith(("adaLN_scale", "adaLN_shift")):
            state[name] = weight[:, None, None]
        elif name in ("mask_token", "encoder_pos_embed_learned", "decoder_pos_embed_learned"):
            state[name] = weight.flatten(0, 1)[None]
        elif name.endswith("embedder.proj.weight"):
            state[name] = weight[:, :, None, None]
    positions = waves(DIT.layout, DIT.hidden)
    fixed = {"pos_embed": positions, "c_pos_embed": torch.zeros_like(positions)}
    return state | {f"cond_diffloss.net.{name}": table for name, table in fixed.items()}


def test_sizes_are_read_from_shapes():
    state = published()
    found = convert_state(state, **HEADS)
    assert found.source == "himar"
    assert [part.config for part in found.parts.values()] == [BACKBONE, HEAD, DIT]
    assert found.plan == {"name": "pivots", "options": {"steps": [4, 4], "levels": [2, 4]}}
    assert torch.equal(found.parts["backbone"].mask_tokens[1], state["mask_token"][0, 20:])
    assert torch.equal(
        found.parts["head1"].input.weight, state["cond_diffloss.net.x_embedder.proj.weight"][:, :, 0, 0]
    )
    more = convert_state(state, **HEADS, pivot_steps=3, steps=2, decoder_heads=4)
    assert more.plan["options"]["steps"] == [3, 2]
    assert more.parts["backbone"].config.decoder == (1, 4)


def test_nothing_is_lost_and_nothing_unused():
    state = published()
    with pytest.raises(ArzooError, match=r"unknown: encoder_blocks\.0\.attn\.q_norm"):
        convert_state({**state, "encoder_blocks.0.attn.q_norm": torch.zeros(1)}, "himar", **HEADS)
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({key: w for key, w in state.items() if key != name}, "himar", **HEADS)
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        convert_state({**state, "encoder_norm.weight": torch.zeros(31)}, "himar", **HEADS)
    for name in ("pos_embed", "c_pos_embed"):
        with pytest.raises(ArzooError, match=f"{name}' is missing, or not the fixed table"):
            convert_state({**state, f"cond_diffloss.net.{name}": torch.ones(1, 16, 16)}, **HEADS)


def test_what_shapes_do_not_say():
    state = published()
    with pytest.raises(ArzooError, match=r"at width 32 is not known .* set heads"):
        convert_state(state)
    with pytest.raises(ArzooError, match=r"at width 16 is not known .* set dit_heads"):
        convert_state(state, heads=2)
    with pytest.raises(ArzooError, match="3 pivots and 17 dense tokens are not two squares"):
        convert_state({**state, "cond_tokens": state["cond_tokens"][:, 1:]}, **HEADS)


def test_averaged_weights_come_first_and_raw_ones_are_said(capsys, tmp_path):
    averaged, file = published(1), tmp_path / "checkpoint-last.pth"
    torch.save({"model": published(), "model_ema": averaged, "epoch": 3}, file)
    found = convert_file(file, **HEADS)
    assert torch.equal(found.parts["backbone"].null, averaged["fake_latent"])
    assert "left out: 'model' (raw)" in found.remark
    torch.save({"model": published(), "epoch": 3}, file)
    found = convert_file(file, **HEADS)
    assert "under 'model' are raw, and the file holds no averaged ones" in found.remark
    done = command(capsys, "convert", file, tmp_path / "out", "--set", "heads=2", "dit_heads=4")
    assert done.status == 0, done.err
    assert "holds no averaged ones" in done.err
    assert not convert_file(file, weights="raw", **HEADS).remark, "who asked for raw weights knows"
    torch.save(averaged, file)
    assert not convert_file(file, **HEADS).remark, "a bare table says nothing of what it holds"


@pytest.mark.parametrize(("width", "steps", "pivots", "dense"), [(768, 4, 2.7, 2.5), (1280, 12, 5.5, 3.2)])
def test_published_knobs(width, steps, pivots, dense):
    control = sampling.himar(width)
    assert sampling.himar_steps(width) == steps
    ends = [control.at(Progress(1, 2, 1, n, n, stage)) for stage, n in enumerate((64, 256))]
    assert [s.head_steps for s in ends] == [100, 250]
    wanted = [1 + (w - 1) * (n - 1) / n for w, n in ((pivots, 64), (dense, 256))]
    assert [s.guidance for s in ends] == pytest.approx(wanted)
    assert sampling.himar(32) == Control()
