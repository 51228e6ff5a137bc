"""Tokenizers take and give pictures as generators do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting import moving
from PIL import Image

import arzoo
from arzoo.base.errors import ArzooError
from arzoo.data.transforms import to_uint8
from arzoo.tokenizers.omnitok.presets import omnitok_micro


@pytest.fixture(scope="module")
def tokenizer():
    return arzoo.load("vq_emoji64")


@pytest.fixture(scope="module")
def model():
    return arzoo.load("nar_emoji64")


def test_the_layout_is_that_of_generators(tokenizer, model):
    drawings = model.generate(["cat-face/openmoji", 7], seed=3)
    codes = tokenizer.encode_images(drawings)
    assert torch.equal(codes.values, model.encode(drawings).values)
    for same in (drawings.images, drawings.stills, drawings.stills.numpy(), list(drawings.stills)):
        assert torch.equal(tokenizer.encode_images(same).values, codes.values)
    rebuilt = tokenizer.decode_images(codes)
    assert torch.equal(rebuilt.tensor, model.decode(codes).tensor)
    assert torch.equal(rebuilt.tensor, tokenizer.reconstruct(drawings).tensor)
    assert (rebuilt.shape, rebuilt.dtype) == ((2, 1, 64, 64, 3), torch.uint8)
    assert [image.size for image in rebuilt.images] == [(64, 64)] * 2


def test_photos_are_fitted_and_files_are_read(tokenizer, tmp_path):
    photo = Image.fromarray(np.arange(90 * 70 * 3, dtype=np.uint8).reshape(90, 70, 3))
    photo.save(tmp_path / "photo.png")
    one = tokenizer.reconstruct(photo)
    assert torch.equal(one.tensor, tokenizer.reconstruct([tmp_path / "photo.png"]).tensor)


def test_clips():
    torch.manual_seed(0)
    tokenizer = omnitok_micro().build().eval()
    clips = to_uint8(moving(2, 5))
    assert clips.shape == (2, 5, 16, 16, 3)
    rebuilt = tokenizer.reconstruct(clips)
    assert rebuilt.shape == clips.shape
    assert torch.equal(rebuilt.tensor, tokenizer.reconstruct(list(clips)).tensor)


def test_a_quality_is_for_adaptive_tokenizers(tokenizer):
    flat = Image.new("RGB", (64, 64), "red")
    counts = arzoo.load("karl_emoji64").reconstruct([flat], quality=0.1).token_counts
    assert 0 < int(counts) < 64
    with pytest.raises(ArzooError, match="quality"):
        tokenizer.reconstruct(flat, quality=0.1)


def test_the_other_layout_is_refused_with_the_way_out(tokenizer):
    with pytest.raises(ArzooError, match=r"must be \(B, 64, 64, 3\) uint8"):
        tokenizer.encode_images(torch.zeros(2, 3, 1, 64, 64))
    with pytest.raises(ArzooError, match=r"Drawings and PIL images: encode_images"):
        tokenizer.encode(torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8))
    with pytest.raises(ArzooError, match="Tokens"):
        tokenizer.decode_images(torch.zeros(1, 64))
