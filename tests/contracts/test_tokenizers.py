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
from arzoo.tokenizers.longcat.presets import longcat_8_micro
from arzoo.tokenizers.nbp.presets import clip_micro
from arzoo.tokenizers.omnitok.presets import omnitok_micro
from arzoo.tokenizers.vq.network import VQTokenizerConfig

SIZES = {"image_size": 16, "widths": (8, 16), "encoder_blocks": 1, "decoder_blocks": 1, "unshuffle": 2}
PICTURES = {
    "vq": VQTokenizerConfig(**SIZES, latent=8, vocab=32, code_channels=4),
    "kl": KLTokenizerConfig(
        **SIZES, channels=4, shift=0.1, encoder_attention="none", decoder_attention="middle"
    ),
    "longcat": longcat_8_micro().replace(image_size=16, patch=2, window=2),
    "patches": PatchesConfig(),
}
CLIPS = {
    "nbp": clip_micro().replace(image_size=16, unshuffle=2),
    "omnitok": omnitok_micro().replace(viewed=True),
    "omnitok causal": omnitok_micro(),
    "omnitok vectors": omnitok_micro().replace(vocab=0, scale=0.5, shift=0.1),
}
TOKENIZERS = PICTURES | CLIPS
LARGE = 2, 3, 5, 16, 24
"""Clips of five frames, wider than the tokenizers' own pictures."""


def built(name: str) -> Tokenizer:
    torch.manual_seed(0)
    return TOKENIZERS[name].build().eval()


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request) -> Tokenizer:
    return built(request.param)


@pytest.fixture(params=PICTURES)
def of_pictures(request) -> Tokenizer:
    return built(request.param)


@pytest.fixture(params=CLIPS)
def of_clips(request) -> Tokenizer:
    return built(request.param)


def frames(tokenizer: Tokenizer, count: int) -> int:
    """Frames of tokens of a clip of so many frames, of a multiple of four beside the first one."""
    return 1 + (count - 1) // 4 if tokenizer.spec.first_alone else count


@torch.no_grad()
def test_pictures_and_clips_of_any_size_go_back_and_forth(tokenizer):
    for shape in (LARGE, (1, 3, 1, 16, 16), (3, 3, 1, 8, 40)):
        x = torch.rand(*shape) * 2 - 1
        tokens = tokenizer.encode(x)
        assert (
            tokens.layout
            == tokenizer.spec.layout_of(shape[2:])
            == Grid(frames(tokenizer, shape[2]), shape[3] // 4, shape[4] // 4)
        )
        assert tokens.values.shape == (shape[0], tokens.layout.size, *tokenizer.spec.token_shape)
        assert tokens.values.dtype == tokenizer.spec.dtype
        assert tokenizer.decode(tokens).shape == shape


@torch.no_grad()
def test_frames_are_tokenized_one_by_one(of_pictures):
    x = torch.rand(*LARGE) * 2 - 1
    assert of_pictures.strictly_causal
    tokens, decoded = of_pictures.encode(x), of_pictures.decode(of_pictures.encode(x))
    values = tokens.values.unflatten(1, (5, -1))
    for t in range(5):
        alone = of_pictures.encode(x[:, :, t : t + 1])
        torch.testing.assert_close(values[:, t], alone.values, atol=1e-5, rtol=0)
        torch.testing.assert_close(decoded[:, :, t : t + 1], of_pictures.decode(alone), atol=1e-5, rtol=0)


def test_tokenizers_of_pictures_say_one_frame(of_pictures):
    assert of_pictures.frames == 1, "an attribute, which no method of a subclass may hide"


@torch.no_grad()
def test_clips_of_several_lengths_go_back_and_forth(of_clips):
    assert of_clips.frames > 1
    assert of_clips.spec.layout == of_clips.spec.layout_of((of_clips.frames, *of_clips.image_size))
    for count in (1, 5, 13):
        x = torch.rand(1, 3, count, 16, 16) * 2 - 1
        tokens = of_clips.encode(x)
        assert tokens.layout == Grid(frames(of_clips, count), 4, 4)
        assert of_clips.decode(tokens).shape == x.shape
    with pytest.raises(ArzooError, match="multiples, T - 1 of 4, H of 4, W of 4"):
        of_clips.encode(torch.zeros(1, 3, 4, 16, 16))


@torch.no_grad()
def test_first_frames_can_be_encoded_alone_where_a_tokenizer_says_so(of_clips):
    """Vectors before quantization: equal to the last bits where causal, far apart where not."""
    x = torch.rand(2, 3, 9, 16, 16) * 2 - 1
    whole = of_clips.latents(x)
    for count in (1, 5):
        start = of_clips.latents(x[:, :, :count])
        difference = float((whole[:, : start.shape[1]] - start).abs().max())
        assert difference < 1e-5 if of_clips.strictly_causal else difference > 1e-2, count


@torch.no_grad()
def test_tokens_before_a_change_stay_exactly_the_same_where_a_tokenizer_is_causal(of_clips):
    x = torch.rand(2, 3, 9, 16, 16) * 2 - 1
    changed = x.clone()
    changed[:, :, 5:] = torch.rand(2, 3, 4, 16, 16) * 2 - 1
    before, after = of_clips.latents(x), of_clips.latents(changed)
    assert torch.equal(before[:, :2], after[:, :2]) == of_clips.strictly_causal
    assert not torch.equal(before[:, 2:], after[:, 2:])


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
    with pytest.raises(ArzooError, match=r"multiples, .*H of 4, W of 4"):
        tokenizer.encode(torch.zeros(1, 3, 1, 16, 18))
    with pytest.raises(ArzooError, match=r"layout=spec.layout_of"):
        tokenizer.decode(
            Tokens.of(tokenizer.spec.empty(1).values.repeat(1, 2, *[1] * len(tokenizer.spec.token_shape)))
        )
