"""LARP, the tokenizer of NAR's model of clips, against recordings of the published code."""

from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F
from parity.golden import Golden, assert_close, assert_equal, load
from parity.wrong import check_noticed, fails, shares
from torch import Tensor

from arzoo.base import registry
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, split
from arzoo.tokenizers.larp.convert import PRIOR, larp_table, position_tables, to_larp
from arzoo.tokenizers.larp.network import sines
from arzoo.tokenizers.larp.tokenizer import LARP

COMPARED = [r"tok\.sd\..+", r"tok\.(x|z|indices|rec|rec_from_codes|loss_q)", r"ar\..+"]
TABLES = ("encoder_patch_pe", "decoder_latent_pe", "decoder_patch_query_embed")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("nar_video")


@pytest.fixture(scope="module")
def tok(golden: Golden) -> Golden:
    return golden.sub("tok.")


def arguments(golden: Golden) -> dict:
    """What the weights do not say; the transformer of the recording may be of another number of tokens."""
    config, grid = golden.info["tok_config"], tuple(golden.info["ar_config"]["latent_shape"])
    regular = config["bottleneck"]["args"]["regularizer"]["args"]
    sizes = {
        "heads": config["encoder_num_heads"],
        "decoder_heads": config["decoder_num_heads"],
        "temperature": regular["stochastic_temperature"],
    }
    return sizes | ({"grid": grid} if math.prod(grid) == config["bottleneck_token_num"] else {})


@pytest.fixture
def tokenizer(golden: Golden, tok: Golden) -> LARP:
    found = convert_state(tok.sub("sd."), "larp", **arguments(golden)).parts["tokenizer"]
    assert isinstance(found, LARP)
    return found


def signed(pictures: Tensor) -> Tensor:
    """From [0, 1], the range of the published code, to [-1, 1]."""
    return pictures * 2 - 1


def test_every_recorded_tensor_is_compared(golden):
    assert not [key for key in golden if not any(re.fullmatch(pattern, key) for pattern in COMPARED)]


def test_sizes_are_those_of_the_recorded_arguments(golden, tokenizer):
    ours, config = tokenizer.config, golden.info["tok_config"]
    expected = {
        "frames": config["frame_num"],
        "image_size": config["input_size"],
        "patch_frames": config["temporal_patch_size"],
        "patch": config["patch_size"],
        "tokens": config["bottleneck_token_num"],
        "channels": config["bottleneck"]["args"]["bottleneck_dim"],
        "vocab": config["bottleneck"]["args"]["regularizer"]["args"]["codebook_size"],
    }
    assert {name: getattr(ours, name) for name in expected} == expected
    assert (ours.encoder.width, ours.encoder.depth) == (
        config["encoder_hidden_size"],
        config["encoder_depth"],
    )
    assert (ours.decoder.width, ours.decoder.depth) == (
        config["decoder_hidden_size"],
        config["decoder_depth"],
    )


def test_tables_of_positions(tok, tokenizer):
    want, ours = tok.sub("sd."), position_tables(tokenizer.config)
    assert set(ours) == set(TABLES)
    for name, table in ours.items():
        assert_close(name, table, want[name])


def test_wrong_tables_fail(tok, tokenizer):
    """Rows before columns, and time beside them instead of added, are noticed."""
    config = tokenizer.config
    frame, row, column = config.patches.coords().unbind(1)
    width = config.encoder.width
    rows_first = torch.cat([sines(width // 2, row), sines(width // 2, column)], 1) + sines(width, frame)
    beside = torch.cat([sines(width // 2, column), sines(width // 4, row), sines(width // 4, frame)], 1)
    for twin in (rows_first, beside):
        assert fails(lambda twin=twin: assert_close("places", twin[None], tok["sd.encoder_patch_pe"]))


@torch.no_grad()
def test_stages_of_encoding(tok, tokenizer):
    x = signed(tok["x"])
    z = tokenizer.latents(x)
    assert_close("z", z, tok["z"])
    assert_equal("indices", tokenizer.encode(x).values, tok["indices"])
    similarity = (
        F.normalize(tok["z"], dim=-1)
        @ F.normalize(tok["sd.bottleneck.regularizer.embedding.weight"], dim=-1).T
    )
    assert_equal("indices from recorded z", tokenizer.quantizer(tok["z"]).codes, tok["indices"])
    chances = (similarity / tokenizer.config.temperature).softmax(-1)
    assert_close("probabilities", tokenizer.quantizer.probabilities(tok["z"]), chances)


@torch.no_grad()
def test_stages_of_decoding(golden, tok, tokenizer):
    decoded = tokenizer.decode(Tokens.of(tok["indices"]))
    assert_close("rec_from_codes", decoded, signed(tok["rec_from_codes"]))
    rebuilt, quantized = tokenizer(signed(tok["x"]))
    assert_close("rec", rebuilt, signed(tok["rec"]))
    weights = golden.info["tok_config"]["bottleneck"]["args"]["regularizer"]["args"]
    loss = (
        weights["codebook_loss_weight"] * quantized.losses["codebook"]
        + weights["commitment_loss_weight"] * quantized.losses["commitment"]
    )
    assert_close("loss_q", loss, tok["loss_q"].squeeze())


@torch.no_grad()
def test_the_range_of_pixels_matters(tok, tokenizer):
    assert fails(lambda: assert_close("z", tokenizer.latents(tok["x"]), tok["z"]))
    decoded = tokenizer.decode(Tokens.of(tok["indices"]))
    assert fails(lambda: assert_close("rec", decoded, tok["rec_from_codes"]))


def test_codes_are_drawn_only_in_training(tok, tokenizer):
    drawn = [tokenizer.train()(signed(tok["x"]))[1].codes for _ in range(8)]
    assert (
        any(not torch.equal(codes, tok["indices"]) for codes in drawn) or tokenizer.config.temperature < 0.01
    )


def test_wrong_weights_fail(tok, tokenizer):
    """A change of any weight moves the latents or the clips beyond the tolerance."""

    def compare() -> None:
        assert_close("z", tokenizer.latents(signed(tok["x"])), tok["z"])
        decoded = tokenizer.decode(Tokens.of(tok["indices"]))
        assert_close("rec_from_codes", decoded, signed(tok["rec_from_codes"]))

    check_noticed(shares({"tokenizer": tokenizer}, larp_table(tokenizer.config)), compare)


def test_the_published_layout_comes_back(tok, tokenizer):
    state, back = tok.sub("sd."), to_larp(tokenizer)
    assert back.keys() == {name for name in state if not name.startswith(PRIOR)}
    for name, value in back.items():
        assert_close(name, value, state[name])


def test_paper_size(golden):
    if "tok_full_keys" not in golden.info:
        pytest.skip(f"the recording {golden.path} names no weights of the published size")
    config = registry.lookup("tokenizer", "larp_l_long")()
    with torch.device("meta"):
        model = config.build()
    weights = split({f"tokenizer.{n}": v for n, v in model.state_dict().items()}, larp_table(config))
    got = {name: list(v.shape) for name, v in (weights | position_tables(config)).items()}
    want = {n: s for n, s in golden.info["tok_full_keys"].items() if not n.startswith(PRIOR)}
    assert want.items() <= got.items()
    assert sum(p.numel() for p in model.parameters()) == golden.info["tok_full_params_wo_prior"]
