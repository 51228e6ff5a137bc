"""Linear layers in the layout of the CPU's fastest kernel, and norms of fewer operators, for sampling.

Sampling multiplies a few rows by every weight at each step, so it waits for weights to arrive from memory. What helps:

* "fp16" keeps the weights in float16 and multiplies in float32 (FBGEMM): half the memory to read, and exact for
  checkpoints that store float16. Activations stay float32, so it is more accurate than a bfloat16 network.
* "bf16" keeps the weights in bfloat16 and multiplies on the tile units of processors that have them (AMX). Where
  there are only vector instructions for it (AVX512_BF16), they pay from a few rows on, and fewer take "fp16". Others
  work on bfloat16 a hundred times slower than on float32, so there "bf16" means "fp16".
* "fp32" packs float32 weights once (MKL for one or two rows, oneDNN for more), where the plain product lays them out
  at every call; for 4 to 14 rows that alone halves the time.
* RMSNorm is nine operators on a CPU, each of which costs more than its arithmetic on a few rows; here it is four.

The products are those that torch's own compiler emits; a build that lacks them falls back to the plain product.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.errors import ArzooError

Product = Callable[[Tensor], Tensor]
Module = TypeVar("Module", bound=nn.Module)
Storage = Literal["fp32", "fp16", "bf16"]

WIDE = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
"""Whether this processor has AVX-512. Which kernel is the fastest was measured with it (Intel) and without (AMD)."""
FEW = 2 if WIDE else 1
"""Up to this many rows MKL's packed product is the fastest in fp32, from there on oneDNN's."""
HALF_ROWS = math.inf if WIDE else 16
"""Up to this many rows float16 weights pay; beyond, arithmetic is the limit, and oneDNN's float32 product is faster."""

BFLOAT_ROWS = 4
"""Up to this many rows float16 weights are faster than bfloat16 ones by vector instructions (AMD, AVX512_BF16)."""


def pack(module: Module, storage: Storage = "fp32") -> Module:
    """A copy of a network whose linear layers and norms are packed for sampling on a CPU.

    All other tensors are shared with the original. The copy computes in float32, cannot be trained or saved, and is
    made for the current number of threads. Packed weights stand beside the original ones; where many rows ask for
    float32 products (see `HALF_ROWS`), float16 weights do so a second time, from the first such call on.

    Args:
        module: A network in float32; layers that are not on a CPU stay as they are.
        storage: How the weights of linear layers are kept, see above.

    Raises:
        ArzooError: A weight is too large for float16.
    """
    return _pack(module, storage, {})


def _pack(module: Any, storage: Storage, done: dict[int, nn.Module]) -> Any:
    if id(module) in done:
        return done[id(module)]
    if type(module) is nn.Linear and module.weight.device.type == "cpu":
        done[id(module)] = PackedLinear(module, storage)
        return done[id(module)]
    if type(module) is nn.RMSNorm and len(module.normalized_shape) == 1:
        done[id(module)] = PackedNorm(module)
        return done[id(module)]
    new = done[id(module)] = copy.copy(module)
    # A shallow copy shares these dictionaries with the original, which must keep its layers.
    for name in ("_parameters", "_buffers", "_modules"):
        setattr(new, name, dict(getattr(module, name)))
    for name, child in module._modules.items():
        new._modules[name] = None if child is None else _pack(child, storage, done)
    new.training = False
    return new


class _Packed(nn.Module):
    """What `pack` makes holds no parameters, so that saving it would lose them."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        raise ArzooError("a packed network cannot be saved; save the one it was packed from")


class PackedNorm(_Packed):
    """RMSNorm for sampling: x / sqrt(|x|^2 + D eps) times sqrt(D) gain, the constants multiplied beforehand."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        (width,) = norm.normalized_shape
        eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        gain = torch.ones(()) if norm.weight is None else norm.weight.detach().float()
        self._floor, self._gain = torch.tensor(math.sqrt(width * eps)), gain * math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) float32."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x / torch.hypot(length, self._floor)).mul_(self._gain)


class PackedLinear(_Packed):
    """A linear layer for sampling; made by `pack`."""

    def __init__(self, linear: nn.Linear, storage: Storage) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = torch.empty(0)  # networks ask their layers for a type and a device
        weight = linear.weight.detach().float().contiguous()
        bias = None if linear.bias is None else linear.bias.detach().float()
        kind: str = storage
        if storage == "bf16" and not tile_units():
            kind = "both" if bfloat_instructions() else "fp16"
        products = {
            "fp32": _float_product,
            "fp16": _half_product,
            "bf16": _bfloat_product,
            "both": _both_product,
        }
        self._product = products[kind](weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) float32.

        Raises:
            ArzooError: A gradient is asked for.
        """
        if x.requires_grad:
            raise ArzooError("a packed network is for sampling; train the one it was packed from")
        if x.dim() == 2:
            return self._product(x)
        return self._product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Sizes, as `nn.Linear` prints them."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


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
    """The faster of FBGEMM's two operators, where it can be used: on one thread only."""
    largest = weight.abs().max().item()
    if not largest <= torch.finfo(torch.float16).max:
        raise ArzooError(f"a weight of {largest:g} does not fit into float16; pack with storage='fp32'")
    if _has("fbgemm_direct") and torch.get_num_threads() == 1:
        with _quiet():
            packed = torch.fbgemm_pack_gemm_matrix_fp16(weight)
        direct = torch.ops.aten.fbgemm_linear_fp16_weight_fp32_activation.default
        return lambda x: direct(x, packed, bias)
    if _has("fbgemm"):
        packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        threaded = torch.ops.quantized.linear_dynamic_fp16.default
        return lambda x: threaded(x, packed)
    stored = weight.half()
    return lambda x: F.linear(x, stored.float(), bias)


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
            elif kernel == "fbgemm_direct":
                packed = torch.fbgemm_pack_gemm_matrix_fp16(weight)
                y = torch.ops.aten.fbgemm_linear_fp16_weight_fp32_activation.default(x, packed, None)
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
