"""Caches of tokens whose number follows the picture: what is stored, and who may read them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from command import ten_pictures, tiny_tokenizer
from ordered import FLEXTOK, KARL, TOKENIZERS, build

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import load_parts
from arzoo.core.clips import as_clips
from arzoo.core.draws import Draws
from arzoo.core.ends import counted, end_of, from_canvas
from arzoo.data.codes import FORMAT, INDEX, VARIABLE, Codes, refuse_other_lengths
from arzoo.data.encoding import encode_split
from arzoo.data.transforms import composite, to_model
from arzoo.data.views import Views

EVERYTHING = torch.zeros(10, dtype=torch.long), torch.arange(10)


def ten_noises():
    """Ten pictures of noise, darker and darker."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand(10, 16, 16, 3, generator=rng) * torch.linspace(50, 255, 10).view(-1, 1, 1, 1)
    return dataclasses.replace(ten_pictures(), images=noise.to(torch.uint8))


def halting(model, share: float = 0.4):
    """KARL whose encoder halts slots at random, other ones in every picture."""
    forward = model.encoder.forward

    def halted(x, latents, quality, slots):
        z, logits = forward(x, latents, quality, slots)
        noise = torch.rand(logits.shape, generator=torch.Generator().manual_seed(int(x.sum() * 100)))
        return z, torch.where(noise < share, 5.0, -5.0)

    model.encoder.forward = halted
    return model


def clips():
    return as_clips(to_model(composite(ten_noises().images)))


def check_round_trip(codes: Codes, model, quality: float | None) -> None:
    tokens = model.encode(clips(), **({} if quality is None else {"quality": quality}))
    stored = codes.tokens(*EVERYTHING)
    assert torch.equal(stored.present, tokens.present)
    assert torch.equal(stored.length, tokens.length)
    assert torch.equal(stored.values[stored.present], tokens.values[tokens.present])
    assert stored.present.sum(1).unique().numel() > 1, "of unlike lengths"
    rows = codes.rows(*EVERYTHING)
    again = from_canvas(
        dataclasses.replace(stored, values=rows, known=torch.ones_like(stored.known)), codes.canvas
    )
    assert torch.equal(again.present, tokens.present)
    assert torch.equal(again.values[again.present], tokens.values[tokens.present])
    assert torch.equal(codes.draw(*EVERYTHING, Draws(range(10))), rows)


def test_kept_sets_that_are_no_prefix_are_stored(tmp_path):
    model = halting(build(KARL))
    codes = encode_split(tmp_path / "codes", model, "hash", ten_noises(), Views(), batch=10)
    assert codes.variable
    assert codes.key["quality"] is None
    assert codes.canvas.vocab == model.spec.vocab + 2
    check_round_trip(codes, model, None)
    kept = codes.tokens(*EVERYTHING).known
    assert not bool((kept.int().diff(dim=1) <= 0).all()), "no prefixes"
    assert json.loads((tmp_path / "codes" / INDEX).read_text())["format"] == VARIABLE


def test_prefixes_for_a_quality_are_stored(tmp_path):
    model = build(FLEXTOK)
    quality = float(errors_of(model).median())
    codes = encode_split(tmp_path / "codes", model, "hash", ten_noises(), Views(), batch=10, quality=quality)
    assert codes.key["quality"] == quality
    assert codes.canvas.vocab == model.spec.vocab + 1
    check_round_trip(codes, model, quality)
    rows = codes.rows(*EVERYTHING)
    count = counted(rows, codes.canvas).sum(1)
    length = codes.tokens(*EVERYTHING).length
    assert torch.equal(count, (length + 1).clamp(max=rows.shape[1]))
    assert bool((rows[length < rows.shape[1], -1] == end_of(codes.canvas)).all())
    with pytest.raises(ArzooError, match="holds other codes"):
        encode_split(tmp_path / "codes", model, "hash", ten_noises(), Views(), quality=quality / 2)


@torch.no_grad()
def errors_of(model) -> torch.Tensor:
    """Errors of all pictures at all lengths."""
    tokens = model.encode(clips())
    decoded = [model.decode(tokens.first(n)).clamp(-1, 1) for n in (1, 2, 4, 8)]
    return torch.stack([(x - clips()).abs().flatten(1).mean(1) / 2 for x in decoded])


def test_kept_is_stored_only_where_tokens_are_missing(tmp_path):
    model = build(KARL)
    whole = encode_split(tmp_path / "whole", halting(model, 0.0), "hash", ten_noises(), Views())
    assert set(whole._tensors[0]) == {"values"}
    assert whole.variable
    assert bool(whole.tokens(*EVERYTHING).present.all())


def test_fixed_codes_keep_their_key_and_format(tmp_path):
    model = load_parts(tiny_tokenizer(tmp_path / "tok"))[1]["tokenizer"]
    codes = encode_split(tmp_path / "codes", model, "hash", ten_noises(), Views())
    assert set(codes.key) == {"tokenizer", "settings", "data", "transform", "views"}
    assert json.loads((tmp_path / "codes" / INDEX).read_text())["format"] == FORMAT == 3
    assert not codes.variable
    assert codes.canvas == codes.spec
    with pytest.raises(ArzooError, match=r"needs all tokens.*ordered tokens"):
        encode_split(tmp_path / "other", model, "hash", ten_noises(), Views(), quality=0.1)


def test_lengths_that_a_generator_does_not_know(tmp_path):
    model = build(FLEXTOK)
    fixed, variable = (
        encode_split(tmp_path / str(q), model, "hash", ten_noises(), Views(), quality=q) for q in (None, 0.2)
    )
    other = encode_split(tmp_path / "other", model, "hash", ten_noises(), Views(), quality=0.1)
    refuse_other_lengths([fixed], fixed.canvas)
    refuse_other_lengths([variable], variable.canvas)
    with pytest.raises(ArzooError, match=r"for quality 0.2, and the generator draws all.*ends=True"):
        refuse_other_lengths([variable], fixed.canvas)
    with pytest.raises(ArzooError, match=r"have all 8 tokens.*--quality Q"):
        refuse_other_lengths([fixed], variable.canvas)
    with pytest.raises(ArzooError, match=r"different qualities.*0\.2.*0\.1"):
        refuse_other_lengths([variable, other], variable.canvas)


def test_vectors_have_no_symbols(tmp_path):
    model = build(TOKENIZERS["karl vectors over kl"])
    codes = encode_split(tmp_path / "codes", model, "hash", ten_noises(), Views())
    assert codes.tokens(*EVERYTHING).values.dtype == torch.float32
    with pytest.raises(ArzooError, match=r"a position has a vector.*one code a position"):
        codes.rows(*EVERYTHING)
