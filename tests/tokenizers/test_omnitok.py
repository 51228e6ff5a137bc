"""OmniTokenizer: published sizes, what its settings do, refusals, training, files of several kinds."""

from __future__ import annotations

import argparse
import copy

import pytest
import torch
from command import command, failing
from fitting import check_fits, moving
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts, open_checkpoint, save_parts
from arzoo.core.clips import as_clips
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_file, convert_state
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.omnitok.convert import AVERAGES, is_omnitok, omnitok_table, to_omnitok, unused
from arzoo.tokenizers.omnitok.layers import SCALE, Attention, OffsetBias, distance_bias, offsets
from arzoo.tokenizers.omnitok.network import OmniTokenizerConfig, from_patches, to_patches
from arzoo.tokenizers.omnitok.presets import omnitok_micro
from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer

TINY = omnitok_micro().replace(encoder_blocks="tw", viewed=True)
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


def test_patches_go_back_and_forth():
    x = torch.randn(2, 3, 8, 8, 12)
    patches = to_patches(x, 4, 2)
    assert patches.shape == (2, 2, 4, 6, 48)
    torch.testing.assert_close(patches[1, 1, 2, 3], x[1, :, 4:8, 4:6, 6:8].flatten())
    assert torch.equal(from_patches(patches, 4, 2), x)


@pytest.mark.parametrize("config", [TINY, VECTORS, TINY.replace(encoder_blocks="t")])
@torch.no_grad()
def test_frames_need_not_be_square(config):
    model, x = build(config), torch.rand(2, 3, 5, 16, 32) * 2 - 1
    tokens = model.encode(x)
    assert tokens.layout.shape == (2, 4, 8)
    assert model.decode(tokens).shape == x.shape
    turned = model.latents(x.transpose(3, 4)).transpose(2, 3)
    assert not torch.allclose(turned, model.latents(x)), "rows and columns are told apart"


@torch.no_grad()
def test_a_picture_is_a_clip_of_one_frame():
    """With causal convolutions also the first frame of a longer clip; with the published ones only alone."""
    for config in (TINY, TINY.replace(viewed=False)):
        model, clip = build(config), torch.rand(2, 3, 5, 16, 16) * 2 - 1
        picture = model.encode(as_clips(clip[:, :, 0]))
        assert picture.layout.shape == (1, 4, 4)
        assert torch.equal(picture.values, model.encode(clip[:, :, :1]).values)
        first = model.latents(clip)[:, 0]
        alone = model.latents(clip[:, :, :1])[:, 0]
        assert torch.allclose(first, alone, atol=1e-5) == model.strictly_causal == (not config.viewed)


@pytest.mark.parametrize("setting", ["causal_attention", "causal_convolution"])
@torch.no_grad()
def test_every_part_must_be_causal(setting):
    config = TINY.replace(viewed=False, **{setting: False})
    model, clip = build(config), torch.rand(1, 3, 9, 16, 16) * 2 - 1
    assert not model.strictly_causal
    changed = clip.clone()
    changed[:, :, 5:] += 0.5 * torch.rand(1, 3, 4, 16, 16)
    assert not torch.allclose(model.latents(clip)[:, 0], model.latents(changed)[:, 0], atol=1e-5)


@torch.no_grad()
def test_brightness_and_contrast_of_a_patch_are_invisible():
    """The norm in front of the embeddings takes them away, so they are lost. Published, and worth knowing."""
    model, clip = build(), torch.rand(1, 3, 5, 16, 16) - 0.5
    latents = model.latents(clip)
    torch.testing.assert_close(model.latents(clip + 0.3), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.latents(2 * clip), latents, atol=1e-3, rtol=0)


@torch.no_grad()
def test_biased_attention_against_its_formula():
    """Scores of the published code without fused attention, position by position."""
    layer, x, heads = Attention(8, 2, 4, raw_keys=True), torch.randn(3, 5, 8), 2
    bias = distance_bias(heads, 5)
    assert [float(-bias[head, 4, 3]) for head in range(heads)] == [2**-4, 2**-8]
    assert torch.equal(distance_bias(3, 4)[:, 3, 2], -torch.tensor([2.0**-4, 2.0**-8, 2.0**-2]))
    q = layer.q(layer.norm(x)).view(3, 5, heads, 4)
    k, v = (part.view(3, 5, heads, 4) for part in layer.kv(x).chunk(2, -1))
    expected = torch.zeros(3, 5, heads, 4)
    for row in range(3):
        for head in range(heads):
            for i in range(5):
                cosines = [torch.cosine_similarity(q[row, i, head], k[row, j, head], 0) for j in range(i + 1)]
                scores = SCALE * torch.stack(cosines) + bias[head, i, : i + 1]
                expected[row, i, head] = scores.softmax(0) @ v[row, : i + 1, head]
    torch.testing.assert_close(layer(x, True, None, bias), layer.out(expected.flatten(2)))


@torch.no_grad()
def test_forgotten_biases_act_where_they_are_asked_for():
    clip = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    for rotary in (True, False):
        model = build(TINY.replace(rotary=rotary, biased=True))
        plain = build(TINY.replace(rotary=rotary))
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".bias.layers." not in k})
        assert any(".bias.layers." in name for name in model.state_dict()) == (not rotary)
        assert not torch.allclose(model.latents(clip), plain.latents(clip), atol=1e-4)


def test_codes_leave_the_sphere_and_latents_do_not():
    model, x = build(), torch.rand(1, 3, 5, 16, 16)
    model.quantizer.embedding.weight.data *= torch.rand(TINY.vocab, 1) + 0.5
    quantized = model.quantizer(model.latents(x))
    table = model.quantizer.embedding.weight
    unit = torch.nn.functional.normalize(model.latents(x), dim=-1)
    assert torch.equal(torch.cdist(unit.flatten(0, 3), table).argmin(1), quantized.codes.flatten())
    torch.testing.assert_close(model.quantizer.lookup(quantized.codes), table[quantized.codes])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 18}, "do not divide into windows of side 8"),
        ({"encoder_blocks": "t", "image_size": 18}, "do not divide into patches of side 4"),
        ({"frames": 4}, "time_patch=4, got frames=4"),
        ({"encoder_blocks": "tx"}, "letters t .* and w .*, got 'tx'"),
        ({"decoder_blocks": ""}, "letters t .* and w .*, got ''"),
        ({"head_width": 6}, "multiple of 4, got 6"),
        ({"heads": 5}, "multiple of its heads, got 32 and 5"),
        ({"vocab": -1}, "vocab"),
        ({"scale": 0.0}, "scale of latents must be positive"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ArzooError, match=message):
        TINY.replace(**changes)


def test_clips_that_do_not_fit():
    model = build()
    with pytest.raises(ArzooError, match=r"multiples, T - 1 of 4, H of 4, W of 4\. Resize or crop"):
        model.encode(torch.zeros(1, 3, 6, 16, 16))
    with pytest.raises(
        ArzooError, match=r"3 x 4 tokens do not divide into windows of side 2.*multiples of 8 pixels"
    ):
        model.encode(torch.zeros(1, 3, 5, 12, 16))
    for shape in ((1, 3, 16, 16), (1, 4, 5, 16, 16)):
        with pytest.raises(ArzooError, match=r"takes clips \(B, 3, T, H, W\).*as_clips"):
            model.encode(torch.zeros(shape))
    with pytest.raises(ArzooError, match=r"are codes \(B, 32\), got \(1, 16\)"):
        model.decode(Tokens.of(torch.zeros(1, 16, dtype=torch.long)))
    with pytest.raises(ArzooError, match=r"are vectors \(B, 32, 4\)"):
        build(VECTORS).decode(Tokens.of(torch.zeros(1, 32, dtype=torch.long)))


@pytest.mark.parametrize(
    ("config", "precision"), [(TINY, torch.bfloat16), (VECTORS, torch.float32)], ids=["codes", "vectors"]
)
def test_losses_fall_in_a_few_steps(config, precision):
    loss = TokenizerLossConfig(l1=1.0, perceptual=0.0, kl=1e-6, adversarial=0.0)
    terms = check_fits(config.build(), loss, precision, moving())
    assert terms == {"l1", "l2"} | ({"codebook", "commitment"} if config.vocab else {"kl"})


def test_the_divergence_of_a_clip_is_shared_by_all_its_numbers():
    model, x = VECTORS.build(), moving(3)
    _, posterior = model(x)
    weights = TokenizerLossConfig(kl=1.0)
    frames = x.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(posterior.terms(weights, x), posterior.terms(weights, frames))
    torch.testing.assert_close(posterior.terms(weights, x)["kl"], posterior.kl().mean() / x[0].numel())


def test_vectors_have_a_mean_a_spread_and_a_scale():
    model, x = build(VECTORS.replace(scale=0.5, shift=0.1)).requires_grad_(False), moving(2)
    tokens, spread = model.distribution(x)
    sample = model.encode(x, Draws([5, 6])).values
    torch.testing.assert_close(model.encode(x[1:], Draws([6])).values, sample[1:], atol=1e-5, rtol=0)
    assert 0.7 < float(((sample - tokens.values) / spread).std()) < 1.3
    torch.testing.assert_close(model(x)[0], model.decode(tokens), atol=1e-5, rtol=0)
    model.calibrate([x, moving(3)])
    standard = model.encode(x, Draws([1, 2])).values
    assert (float(standard.mean()), float(standard.std())) == pytest.approx((0, 1), abs=0.2)
    config = build()
    config.calibrate([x])
    assert config.config == TINY, "codes have no scale"


@pytest.mark.parametrize("config", [TINY, VECTORS])
@torch.no_grad()
def test_a_network_in_bfloat16_takes_float32(config):
    exact = build(config)
    tokens = exact.encode(moving(1))
    rough = copy.deepcopy(exact).bfloat16()
    assert rough.encode(moving(1)).values.dtype == exact.spec.dtype == tokens.values.dtype
    torch.testing.assert_close(rough.decode(tokens).float(), exact.decode(tokens), atol=0.1, rtol=0)


@pytest.mark.parametrize("config", [TINY, VECTORS])
def test_save_and_load(tmp_path, config):
    model, x = build(config), moving(1)
    save_parts(tmp_path / "omni", "tokenizer", {"tokenizer": model}, spec=model.spec.to_dict())
    loaded = load_parts(tmp_path / "omni", "tokenizer")[1]["tokenizer"]
    assert (loaded.config, loaded.spec, loaded.frames) == (config, model.spec, 5)
    assert torch.equal(loaded.encode(x).values, model.encode(x).values)


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
