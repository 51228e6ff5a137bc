"""What every tokenizer of a grid promises, whatever its tokens are: clips of any size, padding refused."""

from __future__ import annotations

import pytest
import torch
from continuous import PatchesConfig

from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.vq.network import VQTokenizerConfig

SIZES = {"image_size": 16, "widths": (8, 16), "encoder_blocks": 1, "decoder_blocks": 1, "unshuffle": 2}
TOKENIZERS = {
    "vq": VQTokenizerConfig(**SIZES, latent=8, vocab=32, code_channels=4),
    "kl": KLTokenizerConfig(
        **SIZES, channels=4, shift=0.1, encoder_attention="none", decoder_attention="middle"
    ),
    "patches": PatchesConfig(),
}
LARGE = 2, 3, 5, 16, 24
"""Clips of five frames, wider than the tokenizers' own pictures."""


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request) -> Tokenizer:
    torch.manual_seed(0)
    return TOKENIZERS[request.param].build().eval()


@torch.no_grad()
def test_pictures_and_clips_of_any_size_go_back_and_forth(tokenizer):
    for shape in (LARGE, (1, 3, 1, 16, 16), (3, 3, 1, 8, 40)):
        x = torch.rand(*shape) * 2 - 1
        tokens = tokenizer.encode(x)
        assert (
            tokens.layout
            == tokenizer.spec.layout_of(shape[2:])
            == Grid(shape[2], shape[3] // 4, shape[4] // 4)
        )
        assert tokens.values.shape == (shape[0], tokens.layout.size, *tokenizer.spec.token_shape)
        assert tokens.values.dtype == tokenizer.spec.dtype
        assert tokenizer.decode(tokens).shape == shape


@torch.no_grad()
def test_frames_are_tokenized_one_by_one(tokenizer):
    x = torch.rand(*LARGE) * 2 - 1
    assert tokenizer.strictly_causal
    tokens, decoded = tokenizer.encode(x), tokenizer.decode(tokenizer.encode(x))
    values = tokens.values.unflatten(1, (5, -1))
    for t in range(5):
        alone = tokenizer.encode(x[:, :, t : t + 1])
        torch.testing.assert_close(values[:, t], alone.values, atol=1e-5, rtol=0)
        torch.testing.assert_close(decoded[:, :, t : t + 1], tokenizer.decode(alone), atol=1e-5, rtol=0)


def test_tokenizers_of_pictures_say_one_frame(tokenizer):
    assert tokenizer.frames == 1, "an attribute, which no method of a subclass may hide"


def test_a_distribution_has_the_layout_of_the_clips(tokenizer):
    x = torch.rand(*LARGE)
    tokens, spread = tokenizer.distribution(x)
    assert torch.equal(tokens.values, tokenizer.encode(x).values)
    assert tokens.layout == tokenizer.spec.layout_of(x.shape[2:])
    assert spread is None or spread.shape == tokens.values.shape


@torch.no_grad()
def test_padding_does_not_reach_a_picture(tokenizer):
    tokens = tokenizer.encode(torch.rand(2, 3, 1, 16, 16))
    tokens.length = torch.tensor([16, 7])
    with pytest.raises(ArzooError, match=r"sample 1 has 7 of 16 tokens.*needs all"):
        tokenizer.decode(tokens)


def test_sizes_without_a_whole_number_of_tokens(tokenizer):
    with pytest.raises(ArzooError, match="multiples, H of 4, W of 4"):
        tokenizer.encode(torch.zeros(1, 3, 1, 16, 18))
    with pytest.raises(ArzooError, match=r"layout=spec.layout_of"):
        tokenizer.decode(
            Tokens.of(tokenizer.spec.empty(1).values.repeat(1, 2, *[1] * len(tokenizer.spec.token_shape)))
        )
