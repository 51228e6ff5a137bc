"""Files of OmniTokenizer: sizes from shapes, strictness, several kinds of files."""

from __future__ import annotations

import argparse

import pytest
import torch
from command import command, failing
from fitting import moving
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, open_checkpoint
from arzoo.models.common.convert import convert_file, convert_state
from arzoo.tokenizers.omnitok.convert import AVERAGES, is_omnitok, omnitok_table, to_omnitok, unused
from arzoo.tokenizers.omnitok.layers import OffsetBias, offsets
from arzoo.tokenizers.omnitok.network import OmniTokenizerConfig
from arzoo.tokenizers.omnitok.presets import omnitok_micro
from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer

TINY = omnitok_micro().replace(encoder_blocks="tw", viewed=True, normed_patches=True)
VECTORS = TINY.replace(vocab=0)
FRAMES = {"image_size": 16, "frames": 5}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def build(config: OmniTokenizerConfig = TINY) -> OmniTokenizer:
    return config.build().eval()


def constants(config: OmniTokenizerConfig) -> dict[str, Tensor]:
    """Tensors of published files that are no weights in use; at random those that may be anything."""
    c, tensors = config, {}
    stacks = {
        "encoder.enc_spatial": c.encoder_blocks, "encoder.enc_temporal": "t" * c.time_blocks,
        "decoder.dec_spatial": c.decoder_blocks, "decoder.dec_temporal": "t" * c.time_blocks,
    }  # fmt: skip
    for stack, kinds in stacks.items():
        tensors[f"{stack}_transformer.norm_out.beta"] = torch.zeros(c.width)
        for i, kind in enumerate(kinds):
            layer = f"{stack}_transformer.layers.{i}.1"
            tensors[f"{layer}.norm.beta"] = torch.zeros(c.width)
            if kind == "w":
                tensors[f"{layer}.relative_position_index"] = offsets(c.window, c.window, torch.device("cpu"))
                continue
            tensors |= {f"{layer}.context_norm.{name}": torch.randn(c.width) for name in ("gamma", "beta")}
            if "temporal" in stack or not (c.rotary or c.biased):
                net = OffsetBias(c.width, c.heads).state_dict()
                names = {"0": "0.0", "1": "1.0", "2": "2"}
                for name, value in net.items():
                    _, number, kind_of_weight = name.split(".")
                    tensors[f"{layer}.spatial_rel_pos_bias.net.{names[number]}.{kind_of_weight}"] = value
    vocab = c.vocab or 16
    sizes = zip(AVERAGES, ((vocab,), (vocab, c.channels), (vocab,)), strict=True)
    tensors |= {name: torch.rand(size) for name, size in sizes}
    return tensors | ({} if c.vocab else {"codebook.embeddings": torch.randn(vocab, c.channels)})


def published(config: OmniTokenizerConfig) -> dict[str, Tensor]:
    """Random weights as published files hold them, without the networks of the loss."""
    return {**to_omnitok(build(config)), **constants(config)}


@pytest.mark.parametrize("name", ["omnitok", "omnitok_vectors"])
def test_published_sizes(name):
    """26.9 million numbers a half and 312 tensors, of which published code uses 211."""
    with torch.device("meta"):
        config = registry.lookup("tokenizer", name)()
        ours = dict.fromkeys(join.names[0] for join in omnitok_table(config).values())
        model = registry.create("tokenizer", name)
        state = {**to_omnitok(model), **constants(config)}
    halves = [
        sum(v.numel() for key, v in state.items() if key.startswith(half)) for half in ("encoder", "decoder")
    ]
    assert [round(count / 1e6, 1) for count in halves] == [26.9, 26.9]
    assert len(state) == 312
    assert len(ours) == 211 - (not config.vocab)
    assert (model.spec.layout.shape, model.frames, model.image_size) == ((5, 32, 32), 17, (256, 256))
    assert (model.spec.vocab, model.spec.channels) == ((8192, 0) if config.vocab else (0, 8))


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        VECTORS,
        TINY.replace(rotary=False),
        TINY.replace(rotary=False, biased=True),
        TINY.replace(biased=True, time_patch=2, decoder_blocks="tw", time_blocks=2),
        TINY.replace(encoder_blocks="ttt", head_width=8, heads=3, hidden=50),
    ],
)
def test_sizes_are_read_from_shapes(config):
    state, x = published(config), moving(1)
    assert is_omnitok(state)
    state |= {"image_discriminator.main.0.weight": torch.ones(1), "perceptual_model.net.bias": torch.ones(1)}
    settings = {"biased": config.biased, "unit_latents": config.unit_latents}
    conversion = convert_state(state, **FRAMES, **settings)
    model = conversion.parts["tokenizer"]
    window = config.window if "w" in config.encoder_blocks + config.decoder_blocks else 8
    assert (conversion.source, model.config) == ("omnitok", config.replace(window=window))
    back = to_omnitok(model)
    assert all(torch.equal(value, state[name]) for name, value in back.items())
    left = {name for name in state.keys() - back.keys() if not name.startswith(("image_d", "perceptual"))}
    assert left == constants(config).keys()
    assert {name for name in left if not unused(name, config)} == {
        name
        for name in left
        if name.endswith(("norm.beta", "norm_out.beta", "position_index")) and "context" not in name
    }
    reference = build(config.replace(window=window))
    reference.load_state_dict(model.state_dict())
    assert torch.equal(model.encode(x).values, reference.encode(x).values)


def test_conversion_is_strict():
    state = published(TINY)
    for name in list(to_omnitok(build()))[::5]:
        with pytest.raises(ArzooError):
            convert_state({key: value for key, value in state.items() if key != name}, "omnitok", **FRAMES)
    with pytest.raises(ArzooError, match=r"unknown: encoder\.extra"):
        convert_state({**state, "encoder.extra": torch.zeros(1)}, **FRAMES)
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        convert_state({**state, "decoder.to_pixels.0.bias": torch.zeros(3)}, **FRAMES)
    index = "encoder.enc_spatial_transformer.layers.1.1.relative_position_index"
    for name in ("encoder.enc_temporal_transformer.norm_out.beta", index):
        with pytest.raises(ArzooError, match="not what OmniTokenizer computes"):
            convert_state({**state, name: state[name] + 1}, **FRAMES)


ARGUMENTS = {
    "resolution": 16, "sequence_length": 5, "l2_code": True, "image_channels": 3, "patch_embed": "linear",
    "lr": 1e-3, "gpus": None, "batch_size": [4, 8],
}  # fmt: skip


def lightning(state: dict[str, Tensor], **arguments: object) -> dict[str, object]:
    return {
        "state_dict": state, "pytorch-lightning_version": "1.5.4", "global_step": 7, "callbacks": {},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}],
        "hyper_parameters": {"args": argparse.Namespace(**ARGUMENTS, **arguments)},
    }  # fmt: skip


@pytest.mark.parametrize("spelling", ["casual", "causal"])
def test_lightning_files_with_either_spelling(tmp_path, spelling):
    names = {"in_temporal_transformer": False, "in_peg": True}
    arguments = {f"{spelling}_{name}": value for name, value in names.items()}
    state = published(TINY)
    path = tmp_path / "omni.ckpt"
    torch.save(lightning(state, **arguments), path)
    config = TINY.replace(causal_attention=False)
    assert convert_file(path).parts["tokenizer"].config == config
    given = convert_file(path, causal_attention=True, image_size=32).parts["tokenizer"].config
    assert given == TINY.replace(image_size=32), "what is said goes before what the file says"
    torch.save({**lightning(state), "hyper_parameters": {**ARGUMENTS, **arguments}}, path)
    assert convert_file(path).parts["tokenizer"].config == config


def test_files_with_averaged_weights_and_wrappers(tmp_path):
    state = published(TINY)
    wrapped = {f"module.{name}": value for name, value in state.items()}
    path = tmp_path / "omni.ckpt"
    averages = {
        f"model_ema.{name.replace('.', '')}": value + 1 for name, value in to_omnitok(build()).items()
    }
    torch.save({"state_dict": {**wrapped, **averages}, "hyper_parameters": ARGUMENTS}, path)
    raw = convert_file(path).parts["tokenizer"].state_dict()
    assert torch.equal(raw["to_latents.bias"], state["pre_vq_conv.1.bias"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("defer_spatial_pool", True),
        ("gen_upscale", 2),
        ("use_external_codebook", True),
        ("patch_embed", "cnn"),
    ],
)
def test_other_networks_are_refused_by_name(tmp_path, argument, value):
    torch.save(lightning(published(TINY)), tmp_path / "omni.ckpt")
    content = lightning(published(TINY))
    vars(content["hyper_parameters"]["args"])[argument] = value
    torch.save(content, tmp_path / "omni.ckpt")
    with pytest.raises(ArzooError, match=rf"{argument}=.*of OmniTokenizer; only"):
        convert_file(tmp_path / "omni.ckpt")


class Harmful:
    """Would run code if it were read as pickles are."""

    def __reduce__(self):
        return (print, ("code has run",))


def test_a_namespace_holds_values_only(tmp_path, capsys):
    torch.save(lightning(published(TINY), hook=Harmful()), tmp_path / "omni.ckpt")
    with pytest.raises(ArzooError, match="plain weights"):
        convert_file(tmp_path / "omni.ckpt")
    assert "code has run" not in capsys.readouterr().out


def test_convert_command(capsys, tmp_path):
    file, out = tmp_path / "imagenet_k600.ckpt", tmp_path / "out"
    torch.save(lightning(published(VECTORS), casual_in_peg=True), file)
    found = command(capsys, "convert", file, out, "--set", "scale=0.5", "--json").json
    assert (found["kind"], found["parts"]["tokenizer"]["class"]) == ("tokenizer", "OmniTokenizer")
    assert load_parts(out)[1]["tokenizer"].config == VECTORS.replace(scale=0.5)
    spec = open_checkpoint(out).index["spec"]
    assert (spec["channels"], spec["first_alone"], spec["downscale"]) == (4, True, [4, 4, 4])
    failing(
        command(capsys, "convert", file, out, "--overwrite", "--set", "window=3"),
        "does not take",
        "frames",
        status=2,
    )
