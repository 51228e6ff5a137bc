"""Linear layers in the layout of the CPU's fastest kernel, and norms of fewer operators, for sampling.

Sampling multiplies a few rows by every weight at each step, so it waits for weights to arrive from memory. What helps:

* "fp32" packs float32 weights once (MKL for one or two rows, oneDNN for more), where the plain product lays them out
  at every call; for 4 to 14 rows that alone halves the time.
* "fp16" keeps the weights in float16 and multiplies in float32 (FBGEMM): half the memory to read, and exact for
  checkpoints that store float16. Activations stay float32, so it is more accurate than a bfloat16 network.
* "bf16" keeps the weights in bfloat16, laid out once, and multiplies on the tile units of processors that have them
  (AMX). Where there are only vector instructions for it (AVX512_BF16), they pay from a few rows on, and fewer take
  "fp16". Others work on bfloat16 a hundred times slower than on float32, so there "bf16" means "fp16".
* "int8" keeps the weights in 8 bits with one scale a row of the matrix, which weights that were stored so survive
  exactly, and rounds every row of the input to 8 bits as well: a quarter of the memory to read, and an error of one
  percent a layer. A row of the result depends on its own input alone, bit for bit, so neither the number of rows nor
  the neighbours in a batch change it.
* RMSNorm is nine operators on a CPU, each of which costs more than its arithmetic on a few rows; here it is four.

Which kernel multiplies how many rows, and why, is in `kernels`.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.generation.kernels import Storage, packed_product

Module = TypeVar("Module", bound=nn.Module)


def pack(module: Module, storage: Storage = "fp32") -> Module:
    """A copy of a network whose linear layers and norms are packed for sampling on a CPU.

    All other tensors are shared with the original. The copy computes in float32, cannot be trained or saved, and is
    made for the current number of threads. Packed weights stand beside the original ones; where many rows ask for
    float32 products (see `kernels.HALF_ROWS`), float16 weights do so a second time, from the first such call on.

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
        self._product = packed_product(weight, bias, storage)

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
