"""Products with packed weights on a CPU: which kernel multiplies how many rows on which processor.

Sampling multiplies a few rows by every weight at each step, so it waits for weights to arrive from memory; many rows
wait for arithmetic. Time of one product relative to `F.linear` in float32, weights out of cache, one thread of an AMD
processor with AVX512_BF16 and AVX512_VNNI, torch 2.14 (768 -> 2304 and 768 -> 4096 alike, 12 layers in turn):

| rows | fp32, oneDNN | fp16, FBGEMM | bf16, oneDNN | int8, FBGEMM |
| --- | --- | --- | --- | --- |
| 1 | 0.6 | 0.31 | 0.31 | 0.19 |
| 2 | 0.31 | 0.16 | 0.17 | 0.11 |
| 4 | 0.43 | 0.22 | 0.23 | 0.16 |
| 16 | 0.44 | 0.31 | 0.23 | 0.21 |
| 128 | 0.43 | 0.42 | 0.23 | 0.20 |

Up to four rows float16 and bfloat16 weights cost the same and float16 is more accurate; a projection to 16384 codes
takes a tenth to a quarter less time with it. From five rows on bfloat16 is faster. The products are those that
torch's own compiler and its quantised layers call; a build that lacks one falls back to the plain product.
"""

from __future__ import annotations

import functools
import math
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

WIDE = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
"""Whether this processor has AVX-512. Which kernel is the fastest was measured with it (Intel) and without (AMD)."""
FEW = 2 if WIDE else 1
"""Up to this many rows MKL's packed product is the fastest in fp32, from there on oneDNN's."""
HALF_ROWS = math.inf if WIDE else 16
"""Up to this many rows float16 weights pay; beyond, arithmetic is the limit, and oneDNN's float32 product is faster."""

BFLOAT_ROWS = 4
"""Up to this many rows float16 weights are as fast as bfloat16 ones by vector instructions (AMD, AVX512_BF16)."""
LARGEST = 127
"""The largest 8-bit weight of every row."""


def packed_product(weight: Tensor, bias: Tensor | None, storage: Storage) -> Product:
    """What multiplies rows (R, in_features) float32 by a weight, kept as asked for.

    Args:
        weight: (out_features, in_features) float32, contiguous.
        bias: (out_features,) float32 or None.
        storage: How the weight is kept, see `packed.pack`.

    Raises:
        ArzooError: The weight is too large for float16.
    """
    kind: str = storage
    if storage == "bf16" and not tile_units():
        kind = "both" if bfloat_instructions() else "fp16"
    made = {
        "fp32": _float_product,
        "fp16": _half_product,
        "bf16": _bfloat_product,
        "both": _both_product,
        "int8": _byte_product,
    }
    return made[kind](weight, bias)


def _float_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Products with float32 weights; each layout is made when a number of rows first asks for it."""
    layouts: dict[int, Tensor] = {}
    many = functools.cache(lambda: _many_rows(weight, bias))
    few = torch.ops.mkl._mkl_linear.default if _has("mkl") else None

    def product(x: Tensor) -> Tensor:
        rows = len(x)
        if rows > FEW or few is None:
            return many()(x)
        if rows == 0:
            return F.linear(x, weight, bias)
        if rows not in layouts:
            layouts[rows] = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
        return few(x, layouts[rows], weight, bias, rows)

    return product


def _many_rows(weight: Tensor, bias: Tensor | None) -> Product:
    """oneDNN's product in float32."""
    if not _has("onednn"):
        return lambda x: F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    product = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: product(x, packed, bias, "none", [], "")


def _bfloat_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Products with bfloat16 weights and inputs; sums and results are float32."""
    small = weight.bfloat16()
    if not _has("onednn_bf16"):
        return lambda x: F.linear(x.bfloat16(), small).float() + (0 if bias is None else bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(small)
    product = torch.ops.mkldnn._linear_pointwise.default
    low = None if bias is None else bias.bfloat16()
    return lambda x: product(x.bfloat16(), packed, low, "none", [], "").float()


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
    """Products with float16 weights; many rows take the same weights in float32, laid out when they first come."""
    few, many = (
        _half_kernel(weight, bias),
        functools.cache(lambda: _float_product(weight.half().float(), bias)),
    )
    return lambda x: few(x) if len(x) <= HALF_ROWS else many()(x)


def _both_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Few rows wait for weights, which FBGEMM reads fastest; many for arithmetic. Layouts are made when needed."""
    few, many = (
        functools.cache(lambda: _half_kernel(weight, bias)),
        functools.cache(lambda: _bfloat_product(weight, bias)),
    )
    return lambda x: few()(x) if len(x) <= BFLOAT_ROWS else many()(x)


def _half_kernel(weight: Tensor, bias: Tensor | None) -> Product:
    """FBGEMM's product, where it can be used."""
    largest = weight.abs().max().item()
    if not largest <= torch.finfo(torch.float16).max:
        raise ArzooError(f"a weight of {largest:g} does not fit into float16; pack with storage='fp32'")
    if _has("fbgemm"):
        packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        multiply = torch.ops.quantized.linear_dynamic_fp16.default
        return lambda x: multiply(x, packed)
    stored = weight.half()
    return lambda x: F.linear(x, stored.float(), bias)


def to_bytes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (out_features, in_features) in 8 bits: numbers -127 to 127 and the scale of every row, float32.

    The largest number of a row becomes 127, so that a weight which is such a product already keeps its numbers.
    """
    scale = weight.abs().amax(1).div_(LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)
    return (weight / scale[:, None]).round_().to(torch.int8), scale


def _byte_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Products with 8-bit weights, a scale a row, and 8-bit inputs, a scale a row: sums are exact integers.

    torch's own dynamic product has one scale for all rows, with which a picture would depend on its neighbours. Rows
    are divided by their largest number here and multiplied by it behind the product, which then rounds all alike.
    Beside torch's, that takes 10 to 40 percent longer on two rows and 1.4 to 2.4 times as long on 512.
    """
    numbers, scale = to_bytes(weight)
    if not _has("int8"):
        return lambda x: F.linear(x, numbers.float().mul_(scale[:, None]), bias)
    packed, multiply, tiny = _prepack(numbers, scale), _byte_kernel(), torch.finfo(torch.float32).tiny
    # Without VNNI, FBGEMM adds two products of 8 bits in 16, which overflow unless the input has one bit less.
    levels, zero = (255, 128) if byte_instructions() else (127, 64)

    def scaled(x: Tensor) -> Tensor:
        largest = torch.linalg.vector_norm(x, math.inf, -1, True).clamp_(min=tiny)
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
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(kind))
                y = torch.ops.mkldnn._linear_pointwise.default(x.to(kind), packed, None, "none", [], "")
            elif kernel == "mkl":
                packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, len(x))
                y = torch.ops.mkl._mkl_linear.default(x, packed, weight, None, len(x))
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
