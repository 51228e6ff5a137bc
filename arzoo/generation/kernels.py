"""Products with packed weights on a CPU, which round every row alike however many there are.

Sampling multiplies a few rows by every weight at each step, so it waits for weights to arrive from memory; many rows
wait for arithmetic. Microseconds of one product, 768 -> 2304 and 768 -> 16384, weights out of cache, one thread of an
AMD processor with AVX512_BF16 and AVX512_VNNI, torch 2.14 (the least of six):

| rows | `F.linear` | fp32, oneDNN | fp16, FBGEMM | bf16, oneDNN | int8, FBGEMM |
| --- | --- | --- | --- | --- | --- |
| 1 | 531, 3860 | 507, 3755 | 177, 1100 | 253, 1824 | 154, 961 |
| 2 | 1004, 8294 | 590, 4186 | 183, 1035 | 291, 2047 | 161, 952 |
| 4 | 746, 7483 | 421, 3127 | 222, 1401 | 224, 1553 | 175, 950 |
| 16 | 1177, 11153 | 762, 5365 | 627, 4659 | 406, 2932 | 302, 1817 |

The products are those that torch's own compiler and its quantised layers call; a build that lacks one falls back to
the plain product. No kernel is chosen by the number of rows, since kernels round differently.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError

Product = Callable[[Tensor], Tensor]
Storage = Literal["fp32", "fp16", "bf16", "int8"]

ALIKE = 4
"""From this many rows on oneDNN rounds a row alike, whatever their number (measured for 4 to 4096, 1 to 3 threads).

One row adds in another order, and one to three are no faster: see the table. MKL, which torch takes for `F.linear`,
gives each thread some of the rows, and adds in another order where one gets fewer than four."""
FEW = 4
"""Up to this many rows float16 weights are faster than bfloat16 ones by vector instructions."""
BLOCK, LEAST = 6, 3
"""Rows that FBGEMM multiplies at once with AVX2 only, and the fewest of them that it rounds like so many."""
LARGEST = 127
"""The largest 8-bit weight of every row."""


def packed_product(weight: Tensor, bias: Tensor | None, storage: Storage, few: bool = False) -> Product:
    """What multiplies rows (R, in_features) float32 by a weight, kept as asked for.

    Args:
        weight: (out_features, in_features) float32, contiguous.
        bias: (out_features,) float32 or None.
        storage: How the weight is kept, see `packed.pack`.
        few: Whether a picture multiplies no more than `FEW` rows at once, where "bf16" is float16 on processors
            without tile units.

    Raises:
        ArzooError: The weight is too large for float16.
    """
    if storage == "bf16" and not tile_units() and (few or not bfloat_instructions()):
        storage = "fp16"
    products = {"fp32": _float_product, "fp16": _half_product, "bf16": _bfloat_product, "int8": _byte_product}
    return products[storage](weight, bias)


def alike_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Rows x (R, in_features) times a float32 weight as it lies, each rounded alike whatever R is."""
    if not _has("onednn"):
        return _padded(x, lambda rows: F.linear(rows, weight, bias))
    return _padded(x, lambda rows: _multiply(rows, weight, bias))


def _padded(x: Tensor, product: Product) -> Tensor:
    """A product of rows, of which a few are repeated to make at least `ALIKE`."""
    rows = len(x)
    if rows >= ALIKE or rows == 0:
        return product(x)
    return product(torch.cat([x] * -(-ALIKE // rows)))[:rows]


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN's product with a weight as it lies or as oneDNN has reordered it, in the type of both."""
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def _float_product(weight: Tensor, bias: Tensor | None) -> Product:
    """oneDNN's product in float32."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight) if _has("onednn") else weight
    return lambda x: alike_product(x, packed, bias)


def _bfloat_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Products with bfloat16 weights and inputs; sums are float32, and results have the type that the rows came in."""
    small = weight.bfloat16()
    if not _has("onednn_bf16"):
        shift = 0 if bias is None else bias
        return lambda x: _padded(
            x, lambda rows: (F.linear(rows.bfloat16(), small).float() + shift).to(x.dtype)
        )
    packed, low = torch.ops.mkldnn._reorder_linear_weight(small), None if bias is None else bias.bfloat16()
    return lambda x: _padded(x, lambda rows: _multiply(rows.bfloat16(), packed, low).to(x.dtype))


def tile_units() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AMX)."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())


def bfloat_units() -> bool:
    """Whether this processor multiplies bfloat16 in hardware, one way or the other."""
    return tile_units() or bfloat_instructions()


def bfloat_instructions() -> bool:
    """Whether this processor multiplies bfloat16 vectors in hardware (AVX512_BF16)."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def _half_product(weight: Tensor, bias: Tensor | None) -> Product:
    """FBGEMM's product with float16 weights, where it can be used."""
    largest = weight.abs().max().item()
    if not largest <= torch.finfo(torch.float16).max:
        raise ArzooError(f"a weight of {largest:g} does not fit into float16; pack with storage='fp32'")
    if _has("fbgemm"):
        packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        multiply = torch.ops.quantized.linear_dynamic_fp16.default
        if _few_rows_differ():
            return lambda x: multiply(_in_blocks(x), packed)[: len(x)]
        return lambda x: multiply(x, packed)
    stored = weight.half()
    return lambda x: alike_product(x, stored.float(), bias)


@functools.cache
def _few_rows_differ() -> bool:
    """Whether FBGEMM rounds one row by itself otherwise than among others, as on processors with AVX2 only."""
    weight, x = (torch.linspace(-1, 1, rows * 100).view(rows, 100).sin() for rows in (64, BLOCK))
    packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
    multiply = torch.ops.quantized.linear_dynamic_fp16.default
    with torch.no_grad():
        return not torch.equal(multiply(x[:1], packed), multiply(x, packed)[:1])


def _in_blocks(x: Tensor) -> Tensor:
    """Rows, and a few more where the last block of `BLOCK` rows would have one or two, which are added up otherwise."""
    short = len(x) % BLOCK
    return torch.cat([x, x[:1].expand(LEAST - short, -1)]) if 0 < short < LEAST else x


def to_bytes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (out_features, in_features) in 8 bits: numbers -127 to 127 and the scale of every row, float32.

    The largest number of a row becomes 127, so that a weight which is such a product already keeps its numbers.
    """
    scale = weight.abs().amax(1).div_(LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)
    return (weight / scale[:, None]).round_().to(torch.int8), scale


def _byte_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Products with 8-bit weights, a scale a row, and 8-bit inputs, a scale a row: sums are exact integers.

    torch's own dynamic product has one scale for all rows, with which a picture would depend on its neighbors. Rows
    are divided by their largest number here and multiplied by it behind the product, which then rounds all alike.
    Beside torch's, that takes 10 to 40 percent longer on two rows.
    """
    numbers, scale = to_bytes(weight)
    if not _has("int8"):
        return lambda x: alike_product(x, numbers.float().mul_(scale[:, None]), bias)
    packed, multiply, tiny = _prepack(numbers, scale), _byte_kernel(), torch.finfo(torch.float32).tiny
    # Without VNNI, FBGEMM adds two products of 8 bits in 16, which overflow unless the input has one bit less.
    levels, zero = (255, 128) if byte_instructions() else (127, 64)

    def scaled(x: Tensor) -> Tensor:
        # On many rows a maximum norm, and aminmax, take 17 times as long.
        largest = x.abs().amax(-1, True).clamp_(min=tiny)
        y = multiply(x / largest, 2 / levels, zero, packed)
        return y.mul_(largest) if bias is None else y.mul_(largest).add_(bias)

    return lambda x: scaled(x) if len(x) else x.new_empty(0, len(scale))


def _prepack(numbers: Tensor, scale: Tensor) -> torch.ScriptObject:
    zeros = torch.zeros(len(scale), dtype=torch.long)
    quantised = torch._make_per_channel_quantized_tensor(numbers, scale.double(), zeros, 0)
    return torch.ops.quantized.linear_prepack(quantised, None)


def _byte_kernel() -> Callable[..., Tensor]:
    return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default


def byte_instructions() -> bool:
    """Whether this processor multiplies and adds bytes in one instruction (VNNI)."""
    probe = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(probe and probe())


@functools.cache
def _has(kernel: str) -> bool:
    """Whether this build of torch has a kernel and it gives the right answer on a small product."""
    weight, x = torch.linspace(-1, 1, 64 * 32).view(64, 32), torch.linspace(-1, 1, 3 * 32).view(3, 32)
    try:
        with torch.no_grad(), _quiet():
            if kernel.startswith("onednn"):
                kind = torch.bfloat16 if kernel == "onednn_bf16" else torch.float32
                y = _multiply(x.to(kind), torch.ops.mkldnn._reorder_linear_weight(weight.to(kind)), None)
            elif kernel == "int8":
                y = _byte_kernel()(x, 2 / 127, 64, _prepack(*to_bytes(weight)))
            else:
                packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
                y = torch.ops.quantized.linear_dynamic_fp16.default(x, packed)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return bool(torch.allclose(y.float(), F.linear(x, weight), atol=2e-2, rtol=1e-2))


@contextmanager
def _quiet() -> Iterator[None]:
    """torch announces that an operator may go one day; `_has` notices when it has gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
