"""TiTok: published sizes of both layouts, and One-D-Piece."""

from __future__ import annotations

from arzoo.base.registry import register
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.titok.network import TiTokConfig

_STACKS = {
    "s": StackConfig(),
    "b": StackConfig(width=768, depth=12, heads=12),
    "l": StackConfig(width=1024, depth=24, heads=16),
}


def _legacy(size: str, tokens: int) -> TiTokConfig:
    return TiTokConfig(encoder=_STACKS[size], decoder=_STACKS[size], tokens=tokens)


def _new(encoder: str, decoder: str, tokens: int, vocab: int, channels: int) -> TiTokConfig:
    return TiTokConfig(
        encoder=_STACKS[encoder], decoder=_STACKS[decoder], tokens=tokens, vocab=vocab, channels=channels,
        unit=False, legacy=False,
    )  # fmt: skip


@register("tokenizer")
def titok_s_128() -> TiTokConfig:
    """TiTok-S-128: 256 x 256 to 128 of 4096 codes, 84M parameters with its pixel decoder."""
    return _legacy("s", 128)


@register("tokenizer")
def titok_b_64() -> TiTokConfig:
    """TiTok-B-64: 64 of 4096 codes, 205M parameters."""
    return _legacy("b", 64)


@register("tokenizer")
def titok_l_32() -> TiTokConfig:
    """TiTok-L-32: 32 of 4096 codes, 641M parameters."""
    return _legacy("l", 32)


@register("tokenizer")
def titok_bl_64() -> TiTokConfig:
    """TiTok-BL-64-VQ8k: 64 of 8192 codes, no second stage, 390M parameters."""
    return _new("b", "l", 64, 8192, 64)


@register("tokenizer")
def titok_bl_128_vectors() -> TiTokConfig:
    """TiTok-BL-128-VAE: 128 vectors of 16 channels, 390M parameters."""
    return _new("b", "l", 128, 0, 16)


@register("tokenizer")
def titok_sl_256() -> TiTokConfig:
    """TiTok-SL-256-VQ8k: 256 of 8192 codes, 330M parameters."""
    return _new("s", "l", 256, 8192, 64)


@register("tokenizer")
def one_d_piece_s() -> TiTokConfig:
    """One-D-Piece-S: TiTok-S with up to 256 codes, any prefix of which decodes to a picture."""
    return _legacy("s", 256).replace(any_prefix=True)


@register("tokenizer")
def one_d_piece_b() -> TiTokConfig:
    """One-D-Piece-B."""
    return _legacy("b", 256).replace(any_prefix=True)


@register("tokenizer")
def one_d_piece_l() -> TiTokConfig:
    """One-D-Piece-L."""
    return _legacy("l", 256).replace(any_prefix=True)
