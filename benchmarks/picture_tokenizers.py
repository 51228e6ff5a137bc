"""Seconds to decode one 256 x 256 picture of FlexTok d12-d12 and of KARL small, with the bound of the products.

Random weights, packed, one process per row. FlexTok draws latents with 20 steps and its guidance of 7.5 by projection;
its bound and share are those of the latents, and the pictures that the autoencoder makes of them are timed apart. KARL
decodes `kept` of 256 tokens to its grid, in turns with all 256; `ratio` is the time per token and grid position, over
that with all tokens: 1 where the cost is proportional to 256 + kept. Its encoding, one call whatever is kept, and its
autoencoder are timed apart too. `kept` does not change the cost of FlexTok.

    python benchmarks/picture_tokenizers.py --threads 1
    python benchmarks/picture_tokenizers.py --model flextok --kept 256 --precision fp32 bf16 --threads 1
    python benchmarks/picture_tokenizers.py --model karl --kept 32 128 256 --precision fp32 --repeat 5 --threads 1
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import torch
from common import PRECISIONS, bound, products, seconds, table
from torch import nn

from arzoo.generation.packed import pack
from arzoo.tokenizers.flextok.presets import flextok_d12_d12
from arzoo.tokenizers.karl.presets import karl_small

MODELS = {"flextok": flextok_d12_d12, "karl": karl_small}
TOKENS = 256


def tokenizer(model: str, precision: str) -> Any:
    """A tokenizer with random weights, none of which are zero."""
    torch.manual_seed(0)
    network: nn.Module = MODELS[model]().build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return pack(network, PRECISIONS[precision], low=True)


def least(*functions: Callable[[], Any], repeat: int) -> list[float]:
    """The shortest time of each function, called in turns."""
    times = [[seconds(function) for function in functions] for _ in range(repeat)]
    return [min(column) for column in zip(*times, strict=True)]


def share(network: nn.Module, decode: Callable[[], Any], spent: float, precision: str) -> dict[str, float]:
    """The bound of the products of one pass, and what share of its seconds that is."""
    with products([network]) as counts:
        decode()
    best = bound(counts, precision, repeat=2)
    return {"bound_seconds": round(best, 3), "share_of_bound": round(best / spent, 3)}


def flextok(model: Any, kept: int, precision: str, repeat: int) -> dict[str, Any]:
    """Seconds to draw latents, and pictures from them."""
    vectors = model.quantizer.lookup(torch.randint(0, model.spec.vocab, (1, TOKENS)))
    noise, keep = (
        torch.randn(1, model.config.channels, model.config.side, model.config.side),
        torch.tensor([kept]),
    )

    def draw(steps: int | None = None) -> torch.Tensor:
        return model.draw(vectors, keep, noise, steps)

    latents = draw(steps=1)  # the first pass packs the weights
    spent, pictures = least(draw, lambda: model.pictures(latents), repeat=repeat)
    part = share(model.decoder, draw, spent, precision)
    return {"seconds": round(spent, 2), **part, "picture_seconds": round(pictures, 2)}


def karl(model: Any, kept: int, precision: str, repeat: int) -> dict[str, Any]:
    """Seconds to decode some and all tokens to the grid, to make a picture of it, and to encode."""
    vectors, x = torch.randn(1, TOKENS, model.config.channels), torch.rand(1, 3, 256, 256)
    latents, quality = model.base_latents(x), torch.tensor([0.05])
    everything = torch.ones(1, TOKENS, dtype=torch.bool)
    some = everything.clone()
    some[0, torch.randperm(TOKENS)[kept:]] = False
    functions = (
        lambda: model.rebuild(vectors, some),
        lambda: model.rebuild(vectors, everything),
        lambda: model.read(x, latents, quality),
        lambda: model.pictures(grid),
    )
    grid = functions[0]()
    for function in functions:
        function()
    spent, whole, encoding, pictures = least(*functions, repeat=repeat)
    return {
        "seconds": round(spent, 4), "seconds_of_256": round(whole, 4),
        "ratio": round(spent / (TOKENS + kept) / (whole / (2 * TOKENS)), 3),
        **share(model.decoder, functions[0], spent, precision),
        "encode_seconds": round(encoding, 3), "picture_seconds": round(pictures, 3),
    }  # fmt: skip


@torch.inference_mode()
def measure(model: str, precision: str, kept: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    decode = {"flextok": flextok, "karl": karl}[model]
    return decode(tokenizer(model, precision), int(kept), precision, arguments.repeat)


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument(
        "--repeat", type=int, default=1, help="passes, of which the shortest counts (default: %(default)s)"
    )


if __name__ == "__main__":
    choices = {"model": list(MODELS), "precision": list(PRECISIONS), "kept": ["32", "128", "256"]}
    table(__doc__, choices, measure, options, free=("kept",))
