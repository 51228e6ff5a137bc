"""Seconds to encode and decode pictures of unlike sizes with LongCat-Next's tokenizer, compared with its products.

Blocks of the published widths with random weights, `--blocks` of 32, the last of which attends to whole pictures; the
codes are 1024 at 2 levels instead of 16384 at 8. Seven pictures of 50 to 100 thousand pixels are packed in one
sequence. `times_products` is the time of the packed pass over that of its matrix products and attentions, each timed
apart on numbers of the same shapes; `times_one_by_one` that over the time of one pass a picture, and `times_padded`
that over a pass of as many pictures of the size that holds all of them.

    python benchmarks/any_size.py --threads 1
    python benchmarks/any_size.py --part encode --blocks 8 --threads 1 --json
"""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from common import seconds, table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from arzoo.tokenizers.longcat.presets import longcat_next

CONFIG = longcat_next()
SIZES = ((224, 224), (336, 168), (168, 336), (448, 224), (280, 280), (224, 224), (392, 196))
aten = torch.ops.aten
PRODUCTS = (
    aten.mm.default, aten.addmm.default, aten.bmm.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
)  # fmt: skip


class Products(TorchDispatchMode):
    """Counts the matrix products and attentions inside the context by operation, shapes and strides."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation and do it."""
        if func in PRODUCTS:
            told = tree_map_only(Tensor, lambda x: (tuple(x.shape), x.stride()), args)
            self.counts[func, told, tuple((kwargs or {}).items())] += 1
        return func(*args, **(kwargs or {}))

    def bound(self, repeat: int) -> float:
        """Seconds of all counted operations, the shortest of `repeat` passes of each."""
        total = 0.0
        for (func, told, named), count in self.counts.items():
            args = [_random(*value) if isinstance(value, tuple) else value for value in told]
            call = functools.partial(func, *args, **dict(named))
            call()
            total += count * min(seconds(call) for _ in range(repeat))
        return total


def _random(shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Random numbers of a shape that lie in memory as the original did, without its overlaps."""
    order = sorted(range(len(shape)), key=lambda axis: (-stride[axis], axis))
    return torch.randn([shape[axis] for axis in order]).permute(
        [order.index(axis) for axis in range(len(shape))]
    )


def build(blocks: int) -> Any:
    """A tokenizer of so many blocks with random weights."""
    torch.manual_seed(0)
    assert CONFIG.decoder is not None
    encoder, decoder = (stack.replace(depth=blocks) for stack in (CONFIG.encoder, CONFIG.decoder))
    return (
        CONFIG.replace(encoder=encoder, decoder=decoder, full=(blocks - 1,), vocab=1024, codebooks=2)
        .build()
        .eval()
    )


@torch.no_grad()  # in inference mode linear layers would not be seen as products
def measure(part: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    model = build(arguments.blocks)
    large = tuple(max(side) for side in zip(*SIZES, strict=True))
    pictures, padded = (
        [torch.rand(1, 3, 1, *size) * 2 - 1 for size in sizes] for sizes in (SIZES, [large] * len(SIZES))
    )
    run: Callable[[list[Any]], Any] = model.encode_packed
    given: list[list[Any]] = [pictures, padded]
    if part == "decode":
        run, given = model.decode_packed, [model.encode_packed(pictures), model.encode_packed(padded)]
    ways = {
        "packed": lambda: run(given[0]),
        "one by one": lambda: [run([one]) for one in given[0]],
        "padded": lambda: run(given[1]),
    }
    with Products() as products:
        ways["packed"]()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeat):
        for name, way in ways.items():
            times[name].append(seconds(way))
    best = {name: min(several) for name, several in times.items()}
    least = products.bound(arguments.repeat)
    return {
        "blocks": arguments.blocks, "seconds": round(best["packed"], 5), "products_seconds": round(least, 5),
        "times_products": round(best["packed"] / least, 3),
        "times_one_by_one": round(best["packed"] / best["one by one"], 3),
        "times_padded": round(best["packed"] / best["padded"], 3),
    }  # fmt: skip


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--blocks", type=int, default=4, help="blocks of each network (default: %(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=3, help="timed passes, the shortest counts (default: %(default)s)"
    )


if __name__ == "__main__":
    table(__doc__, {"part": ["encode", "decode"]}, measure, options)
