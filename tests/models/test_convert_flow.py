"""Converters of xAR and FlowAR without recordings: strict, safe, and their own inverse."""

from __future__ import annotations

import pytest
import torch
from command import command
from safetensors.torch import save_file

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import save_parts
from arzoo.models.common.convert import convert_file, convert_state, split
from arzoo.models.common.convert_modulated import buffers, disarrange, group_sizes
from arzoo.models.flowar.convert import flowar_table
from arzoo.models.flowar.network import FlowARConfig
from arzoo.models.heads.flow_net import FlowNetConfig
from arzoo.models.xar.convert import sequence, xar_table
from arzoo.models.xar.network import XARConfig
from arzoo.samplers.plans.inplace import cells
from arzoo.samplers.plans.scales import scales
from arzoo.tokenizers.kl.network import KLTokenizerConfig

SIZES = {"width": 32, "encoder_depth": 2, "decoder_depth": 1, "heads": 2, "channels": 3, "classes": 5}


def parts_of(source):
    """A random model, its plan, the table of names, and the places of the published sequence."""
    torch.manual_seed(0)
    if source == "xar":
        backbone = XARConfig(**SIZES, decoder_heads=4, hidden_width=48, grid=(1, 6, 6)).build()
        plan = cells(backbone.layout, 3)
        return {"backbone": backbone}, plan, xar_table(backbone.config), sequence(plan)
    backbone = FlowARConfig(**SIZES, levels=(1, 3, 6)).build()
    net = FlowNetConfig(
        width=32, channels=3, hidden=64, depth=2, cross=source == "flowar cross", levels=(1, 3, 6)
    )
    plan, table = scales(backbone.layout), flowar_table(backbone.config, net)
    return {"backbone": backbone, "head": net.build()}, plan, table, torch.arange(plan.layout.size)


def published(source):
    """Random weights in the published layout, with the buffers of published files."""
    parts, plan, table, order = parts_of(source)
    weights = {f"{part}.{name}": w for part, m in parts.items() for name, w in m.state_dict().items()}
    state = disarrange(split(weights, table), order)
    rotary = {
        "encoder_blocks.": parts["backbone"].encoder_rotary,
        "decoder_blocks.": parts["backbone"].decoder_rotary,
    }
    if "head" in parts:
        rotary["flownet."] = parts["head"].rotary
    names = [
        name.replace(".attn.proj.bias", ".attn.rope.freqs") for name in state if ".attn.proj.bias" in name
    ]
    return state | dict(buffers(["mask", *names], plan, rotary, order))


SOURCES = ["xar", "flowar", "flowar cross"]


@pytest.mark.parametrize("source", SOURCES)
def test_sizes_are_read_and_the_inverse_gives_the_file_back(source):
    parts, plan, table, order = parts_of(source)
    state = published(source)
    found = convert_state(state)
    assert found.source == source.split()[0]
    assert found.parts["backbone"].config == parts["backbone"].config
    if source != "xar":
        assert found.parts["head"].config == parts["head"].config
    assert found.plan == {
        "name": plan.name,
        "options": {"regions": 3} if source == "xar" else {"levels": [1, 3, 6]},
    }
    weights = {f"{part}.{name}": w for part, m in found.parts.items() for name, w in m.state_dict().items()}
    back = disarrange(split(weights, table), order)
    kept = {name for name in state if name != "mask" and ".rope." not in name}
    assert back.keys() == kept
    assert all(torch.equal(back[name], state[name]) for name in kept)
    assert group_sizes(state) == [group.shape[1] for group in plan.groups]


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_lost_and_nothing_unused(source):
    state = published(source)
    name = source.split()[0]
    with pytest.raises(ArzooError, match=r"unknown: encoder_blocks\.0\.attn\.scale"):
        convert_state({**state, "encoder_blocks.0.attn.scale": torch.zeros(1)}, name)
    for key in state:
        if key != "mask" and ".rope." not in key:
            with pytest.raises(ArzooError):
                convert_state({k: w for k, w in state.items() if k != key}, name)
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        convert_state({**state, "z_proj_ln.weight": torch.zeros(31)}, name)


@pytest.mark.parametrize("source", SOURCES)
def test_buffers_are_compared(source):
    state = published(source)
    for name in ("mask", "encoder_blocks.1.attn.rope.freqs"):
        wrong = state[name].clone()
        wrong.view(-1)[-1] = 0.5
        with pytest.raises(ArzooError, match=f"buffer '{name}'"):
            convert_state({**state, name: wrong})


def test_what_a_file_without_buffers_does_not_say():
    state = {name: w for name, w in published("xar").items() if name != "mask" and ".rope." not in name}
    found = convert_state(state, heads=2, regions=3)
    assert found.parts["backbone"].config.stack_heads == (2, 2)
    assert found.plan["options"] == {"regions": 3}
    assert convert_state(state, heads=2).plan["options"] == {"regions": 2}, "the published number"
    state = {name: w for name, w in published("flowar").items() if name != "mask" and ".rope." not in name}
    assert convert_state(state, heads=2, levels=(1, 3, 6)).parts["backbone"].config.levels == (1, 3, 6)
    with pytest.raises(ArzooError, match="46 positions"):
        convert_state(state, heads=2)


def test_averaged_weights_come_first(tmp_path):
    state = published("xar")
    other = {name: w + 1 if w.is_floating_point() and name != "mask" else w for name, w in state.items()}
    torch.save({"model": other, "model_ema": state, "epoch": 3}, tmp_path / "xar.pth")
    found = convert_file(tmp_path / "xar.pth")
    assert torch.equal(found.parts["backbone"].label.weight, state["class_emb.weight"])


@pytest.mark.parametrize("source", SOURCES)
def test_a_converted_model_draws_with_its_tokenizer(capsys, tmp_path, source):
    """FlowAR's pyramid lies over the grid of an ordinary tokenizer."""
    sizes = {
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "encoder_attention": "none",
        "decoder_attention": "none",
    }
    tokenizer = KLTokenizerConfig(image_size=24, widths=(32, 32, 32), channels=3, **sizes).build()
    save_parts(tmp_path / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    save_file(published(source), tmp_path / "model.safetensors")
    options = ["--tokenizer", tmp_path / "tok"]
    result = command(capsys, "convert", tmp_path / "model.safetensors", tmp_path / "gen", *options)
    assert result.status == 0, result.err
    options += ["--num", 2, "--guidance", "1:3", "--head-steps", "4:3", "--out", tmp_path / "out", "--json"]
    drawn = command(capsys, "generate", tmp_path / "gen", *options)
    assert drawn.status == 0, drawn.err
    assert drawn.json["passes"] == (9 if source == "xar" else 3)
