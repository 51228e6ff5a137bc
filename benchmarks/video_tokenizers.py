"""Seconds to encode and to decode one clip of 17 x 128 x 128 with NBP's tokenizer, with the bound of its convolutions.

Random weights; one row, in one process, for each half of the network and precision. The bound is the time of the
convolutions of the whole clip, each alone on an input that is padded already, in the faster of two layouts (channels
last or not). The peak is the largest resident memory of the process, before the bound is measured. Without
instructions for bfloat16 a processor takes a hundred times as long in it.

    python benchmarks/video_tokenizers.py --threads 1
    python benchmarks/video_tokenizers.py --half encode --precision bf16 --threads 1
"""

from __future__ import annotations

import functools
import resource
from argparse import ArgumentParser, Namespace
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from common import seconds, table
from torch import Tensor, nn

from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.nbp.network import NBPTokenizer, NBPTokenizerConfig
from arzoo.tokenizers.nbp.presets import nbp_clip

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Convolution = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Shapes of the padded input and of the weight, and the stride."""


def run(tokenizer: NBPTokenizer, half: str, frames: int) -> Tensor:
    """Encode or decode a random clip."""
    shape = frames, *tokenizer.image_size
    if half == "encode":
        return tokenizer.encode(torch.rand(1, 3, *shape) * 2 - 1).values
    layout = tokenizer.spec.layout_of(shape)
    return tokenizer.decode(Tokens.of(torch.randint(tokenizer.spec.vocab, (1, layout.size)), layout=layout))


def convolutions(config: NBPTokenizerConfig, half: str) -> Counter[Convolution]:
    """Count the convolutions of a whole clip."""
    counts: Counter[Convolution] = Counter()

    def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv3d)
        around = [2 * int(n) for n in layer.padding]
        padded = [n + more for n, more in zip(inputs[0].shape[2:], around, strict=True)]
        counts[(*inputs[0].shape[:2], *padded), tuple(layer.weight.shape), tuple(layer.stride)] += 1

    with torch.device("meta"):
        tokenizer = config.build()
        for layer in tokenizer.modules():
            if isinstance(layer, nn.Conv3d):
                layer.register_forward_pre_hook(count)
        if half == "encode":
            tokenizer.latents(torch.empty(1, 3, config.frames, *tokenizer.image_size))
        else:
            grid = tokenizer.spec.layout
            assert isinstance(grid, Grid)
            tokenizer.decode_latents(torch.empty(1, *grid.shape, len(config.levels)))
    return counts


def bound(counts: Counter[Convolution], dtype: torch.dtype, repeat: int) -> float:
    """Seconds of counted convolutions."""
    total = 0.0
    for (shape, weight_shape, stride), count in counts.items():
        x, weight = torch.randn(shape, dtype=dtype), torch.randn(weight_shape, dtype=dtype)
        best = float("inf")
        for layout in (torch.channels_last_3d, torch.contiguous_format):
            a, b = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
            for _ in range(repeat):
                best = min(best, seconds(functools.partial(F.conv3d, a, b, stride=stride)))
        total += count * best
    return total


@torch.inference_mode()
def measure(half: str, precision: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    torch.manual_seed(0)
    config, dtype = nbp_clip(), DTYPES[precision]
    torch.set_default_dtype(dtype)  # no copy in float32 may count into the peak
    tokenizer = config.build().eval()
    torch.set_default_dtype(torch.float32)
    run(tokenizer, half, frames=1)  # the first call of a layer prepares more
    spent = min(seconds(lambda: run(tokenizer, half, config.frames)) for _ in range(arguments.repeat))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    best = bound(convolutions(config, half), dtype, arguments.repeat)
    return {
        "seconds": round(spent, 2), "bound_seconds": round(best, 2), "share_of_bound": round(best / spent, 3),
        "peak_gib": round(peak, 2),
    }  # fmt: skip


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument(
        "--repeat", type=int, default=1, help="passes, of which the shortest counts (default: %(default)s)"
    )


if __name__ == "__main__":
    table(__doc__, {"half": ["encode", "decode"], "precision": list(DTYPES)}, measure, options)
