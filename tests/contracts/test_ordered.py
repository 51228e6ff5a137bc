"""What every one-dimensional tokenizer promises: it survives saving and conversion, and precision changes no code."""

from __future__ import annotations

import json

import pytest
import torch
from command import command, failing
from ordered import TOKENIZERS, build, pictures
from safetensors.torch import save_file

import arzoo
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import load_parts, open_checkpoint, save_parts
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.flextok.convert import flextok_of, to_flextok
from arzoo.tokenizers.flextok.network import FlexTokConfig, StackConfig
from arzoo.tokenizers.karl.convert import to_karl
from arzoo.tokenizers.karl.network import KarlConfig
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.titok.convert import to_titok
from arzoo.tokenizers.titok.network import TiTokConfig


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return build(TOKENIZERS[request.param])


def same(one: Tokens, other: Tokens) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("values", "known", "length")
    )


@torch.no_grad()
def check_alike(one, other):
    """Equal settings, weights, tokens and pictures."""
    assert one.config == other.config
    assert one.spec == other.spec
    assert one.qualities == other.qualities
    weights = other.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())
    tokens = one.encode(pictures())
    assert same(tokens, other.encode(pictures()))
    assert torch.equal(one.decode(tokens), other.decode(tokens))


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_checkpoint_is_the_tokenizer(tokenizer, tmp_path, bits):
    save_parts(tmp_path / "once", "tokenizer", {"tokenizer": tokenizer}, bits=bits)
    stored = load_parts(tmp_path / "once")[1]["tokenizer"]
    if bits == 32:
        check_alike(tokenizer, stored)
    save_parts(tmp_path / "twice", "tokenizer", {"tokenizer": stored}, bits=bits)
    check_alike(stored, load_parts(tmp_path / "twice")[1]["tokenizer"])


def test_a_record_of_other_tokens_is_refused(tmp_path):
    tokenizer = build(OVER)
    product = " x ".join(map(str, tokenizer.config.levels))
    other = tokenizer.spec.to_dict() | {"vocab": tokenizer.spec.vocab - 1}
    save_parts(tmp_path, "tokenizer", {"tokenizer": tokenizer}, spec=other, whole=True)
    message = rf"records tokens of vocab {other['vocab']}, but .* \({product} levels\).*save it again"
    with pytest.raises(ArzooError, match=message):
        open_checkpoint(tmp_path).load("tokenizer")


def test_a_tokenizer_saves_itself(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "mine")
    check_alike(tokenizer, type(tokenizer).from_pretrained(tmp_path / "mine"))
    check_alike(tokenizer, arzoo.load(tmp_path / "mine"))


@torch.no_grad()
def test_codes_and_their_vectors_do_not_depend_on_autocast(tokenizer):
    """The networks round in half precision, so other codes may come out of them; the arithmetic of codes may not."""
    if tokenizer.quantizer is None:
        return
    z = torch.randn(3, 200, tokenizer.quantizer.channels)
    plain = tokenizer.quantizer(z)
    vectors = tokenizer.quantizer.lookup(plain.codes)
    with torch.autocast("cpu", torch.bfloat16):
        halved = tokenizer.quantizer(z)
        assert torch.equal(halved.codes, plain.codes)
        assert torch.equal(halved.vectors, plain.vectors)
        assert torch.equal(tokenizer.quantizer.lookup(plain.codes), vectors)
        tokens = tokenizer.encode(pictures())
        assert tokens.values.dtype == torch.int64
        assert tokenizer.decode(tokens).isfinite().all()


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch(tokenizer):
    together = tokenizer.encode(pictures())
    for row in range(3):
        alone = tokenizer.encode(pictures()[row : row + 1])
        assert torch.equal(alone.length, together.length[row : row + 1])
        if tokenizer.spec.discrete:
            assert torch.equal(alone.values, together.values[row : row + 1])
        torch.testing.assert_close(alone.values, together.values[row : row + 1], atol=1e-5, rtol=0)


def test_a_distribution_is_around_the_tokens(tokenizer):
    tokens, spread = tokenizer.distribution(pictures())
    assert same(tokens, tokenizer.encode(pictures()))
    if spread is not None:
        assert spread.shape == tokens.values.shape
        assert bool((spread > 0).all())
    has_posterior = isinstance(tokenizer.config, TiTokConfig) and not tokenizer.spec.discrete
    assert (spread is not None) == has_posterior


@torch.no_grad()
def test_no_tokens_and_too_many(tokenizer):
    tokens = tokenizer.encode(pictures())
    size = tokenizer.spec.layout.size
    for count in (0, size + 1):
        with pytest.raises(ArzooError, match=f"a prefix has 1 to {size} tokens here, got {count}"):
            tokens.first(count)
    tokens.length = torch.tensor([size, 0, 1])
    if isinstance(tokenizer.config, KarlConfig):
        assert tokenizer.decode(tokens).isfinite().all(), "no token at all is a picture for KARL"
        return
    with pytest.raises(ArzooError, match=r"sample 1 has no tokens.*Keep at least one: tokens.first\(1\)"):
        tokenizer.decode(tokens)


BASE = KLTokenizerConfig(
    image_size=16, widths=(32, 32), encoder_blocks=1, decoder_blocks=2, channels=4, encoder_attention="middle",
    decoder_attention="middle", scale=0.7,
)  # fmt: skip
OVER = FlexTokConfig(
    image_size=16, base=BASE, patch=2, encoder=StackConfig(width=64, depth=1),
    decoder=StackConfig(width=64, depth=2), registers=8, levels=(4, 3),
)  # fmt: skip


def flextok_json(config: FlexTokConfig) -> dict:
    """The part of a published configuration that settings are read from."""
    return {
        "_target_": "flextok.flextok_wrapper.FlexTok",
        "vae": {"scaling_factor": config.base.scale, "sample_posterior": False},
        "encoder": {"module_dict": {
            "enc_patch_emb": {"patch_sizes": [config.patch] * 2},
            "enc_transformer": {"dim": config.encoder.width, "depth": config.encoder.depth},
        }},
        "decoder": {"module_dict": {
            "dec_transformer": {
                "dim": config.decoder.width, "depth": config.decoder.depth, "intermediate_layers": [0],
            },
            "dec_time_embedder": {"max_timestep": 1.0},
            "dec_nested_dropout": {"size_sampling_mode": "pow2"},
            "dec_latent_dropout": {"dropout_prob": 0.2},
        }},
        "regularizer": {"levels": list(config.levels)},
    }  # fmt: skip


def published(name, tmp_path):
    """A tokenizer, its published tensors, and the options that bring it back."""
    if name == "flextok":
        (tmp_path / "config.json").write_text(json.dumps(flextok_json(OVER)))
        model = build(OVER.replace(align_after=0))
        return model, to_flextok(model), [f"config={tmp_path / 'config.json'}"]
    if name == "titok":
        model = build(TOKENIZERS["titok"].replace(encoder={"heads": 1}, decoder={"heads": 1}))
        return model, to_titok(model), ["any_prefix=true"]
    model = build(TOKENIZERS["karl"])
    return model, to_karl(model), ["heads=[2, 2]", "slots=12"]


@pytest.mark.parametrize("name", ["flextok", "titok", "karl"])
def test_published_files_come_in_from_the_command_line(name, capsys, tmp_path):
    model, state, settings = published(name, tmp_path)
    save_file({key: value.contiguous().clone() for key, value in state.items()}, tmp_path / "a.safetensors")
    result = command(capsys, "convert", tmp_path / "a.safetensors", tmp_path / "x", "--set", *settings)
    assert result.status == 0, result.err
    check_alike(model, load_parts(tmp_path / "x")[1]["tokenizer"])
    state.pop(next(iter(state)))
    save_file({key: value.contiguous().clone() for key, value in state.items()}, tmp_path / "b.safetensors")
    failing(command(capsys, "convert", tmp_path / "b.safetensors", tmp_path / "y", "--set", *settings))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("extra",), {"_target_": "os.system"}, r"parts that are not known here: os\.system"),
        (("decoder", "module_dict", "dec_nested_dropout", "size_sampling_mode"), "pow", "'pow'. Did you mean 'pow2'"),
        (("decoder", "module_dict", "dec_transformer", "adaLN_expansion"), 1, "of dec_transformer is 1"),
        (("decoder", "module_dict", "dec_seq_packer"), {"mask_mode": "causal"}, "only 'full' is supported"),
        (("encoder", "module_dict", "enc_transformer", "head_dim"), 32, "head_dim of enc_transformer is 32"),
        (("encoder", "module_dict", "enc_patch_emb", "patch_sizes"), [2, 1], "only squares"),
        (("vae", "sample_posterior"), True, "only their mean"),
        (("regularizer",), None, r"settings by name in 'regularizer', got None\. Give the published config\.json"),
        (("regularizer",), {}, "no 'levels' in regularizer"),
        (("regularizer", "levels"), [4, 4, 4], "do not fit the sizes"),
        (("encoder",), 3, "settings by name in 'encoder'"),
    ],
)  # fmt: skip
def test_configurations_of_flextok_that_cannot_be(path, value, message):
    config = flextok_json(OVER)
    *groups, last = path
    group = config
    for name in groups:
        group = group[name]
    group[last] = value
    with pytest.raises(ArzooError, match=message) as refusal:
        flextok_of(to_flextok(build(OVER)), config)
    assert not isinstance(refusal.value, UnknownName), "a value in a file is nothing that was typed"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("flextok", {"steps": 0}, "steps must be finite and at least 1, got 0"),
        ("flextok", {"registers": 0}, "registers must be"),
        ("flextok", {"null_probability": 1.5}, "null_probability must be from 0 to 1"),
        ("flextok", {"longest_time": 0.0}, "longest_time must be positive"),
        ("flextok", {"encoder": {"depth": 0}}, "depth must be"),
        ("karl", {"encoder": {"heads": 0}}, "heads must be"),
        ("karl", {"quality": 0.5}, "quality must be from 0 to 0.38"),
        ("titok", {"tokens": 0}, "tokens must be"),
    ],
)
def test_settings_out_of_range(name, changes, message):
    with pytest.raises(ArzooError, match=message):
        TOKENIZERS[name].replace(**changes)
