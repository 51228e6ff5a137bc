"""Networks for sampling on a CPU: rows that round alike, linear layers in the fastest layout, norms of fewer operators.

A picture must not depend on how many are drawn with it, but libraries choose the kernel of a product, and with it the
order of its sums, by the number of rows. `steady` gives a network whose products round every row alike; so do those of
`pack`, which besides keeps the weights as sampling reads them fastest. It multiplies a few rows by every weight at
each step, so it waits for weights to arrive from memory:

* "fp32" lays float32 weights out once, where the plain product does at every call; that alone halves the time.
* "fp16" keeps the weights in float16 and multiplies in float32: half the memory to read, and exact for checkpoints
  that store float16. Activations stay float32, so it is more accurate than a bfloat16 network.
* "bf16" keeps the weights in bfloat16, laid out once, and multiplies on the units of processors that have them (AMX,
  AVX512_BF16). With vector instructions alone (AVX512_BF16) it pays from a few rows on, so pictures that are drawn
  token by token take "fp16". Other processors work on bfloat16 a hundred times slower than on float32, so there "bf16"
  means "fp16" as well.
* "int8" keeps the weights in 8 bits with one scale a row of the matrix, which weights that were stored so survive
  exactly, and rounds every row of the input to 8 bits as well: a quarter of the memory to read, and an error of one
  percent a layer.
* RMSNorm is nine operators on a CPU, each of which costs more than its arithmetic on a few rows; here it is four.

The kernels and their times are in `kernels`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.generation.kernels import FEW, Storage, alike_product, bfloat_units, packed_product

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator

Module = TypeVar("Module", bound=nn.Module)
LARGEST = 2**30
"""Bytes of a network whose weights are laid out anew for every batch: a second copy of them, and a few milliseconds."""
Replace = Callable[[nn.Module], nn.Module | None]


def packed_generator(model: Generator, storage: Storage = "fp32") -> Generator:
    """Return the same generator with linear layers packed for fast sampling on a CPU, not for training or saving.

    Args:
        model: The generator.
        storage: How their weights are kept: "fp32", in 16 bits as "fp16" or "bf16", or in 8 as "int8", see above.
    """
    rows = 2 * max(group.shape[1] for group in model.plan().groups)  # with guidance
    few = rows <= FEW and not model.backbone.bidirectional
    heads = [pack(head, storage, few) for head in model.heads]
    return model.with_weights(pack(model.backbone, storage, few), heads)


def drawing(module: Module) -> Module:
    """A copy of a network that rounds every row alike on a CPU, for one batch: packed unless that takes much memory."""
    tensors = list(module.parameters())
    small = sum(tensor.nbytes for tensor in tensors) <= LARGEST
    plain = small and all(tensor.dtype == torch.float32 for tensor in tensors)
    return pack(module) if plain else steady(module)


def steady(module: Module) -> Module:
    """A copy of a network whose linear layers on a CPU round every row alike, however many there are.

    All tensors are shared with the original, and it is quickly made, but up to half slower than a packed one on a few
    rows. Other layers round rows alike by themselves. What is computed with gradients, or not in float32, is left to
    torch.
    """

    def replace(layer: nn.Module) -> nn.Module | None:
        if type(layer) is not nn.Linear:
            return None
        new = copy.copy(layer)
        new.__class__ = SteadyLinear
        return new

    return _copy(module, replace, {})


def pack(module: Module, storage: Storage = "fp32", few: bool = False, low: bool = False) -> Module:
    """A copy of a network whose linear layers and norms are packed for sampling on a CPU.

    All other tensors are shared with the original. The copy cannot be trained or saved, and is made for the current
    number of threads. It computes in float32 between its products unless `low` is given. Packed weights stand beside
    the original ones.

    Args:
        module: A network in float32; layers that are not on a CPU stay as they are.
        storage: How the weights of linear layers are kept, see above.
        few: Whether a picture multiplies no more than `kernels.FEW` rows at once: it is drawn token by token.
        low: Where products are in bfloat16, numbers between them are too, if the network takes its type from its
            layers. With hundreds of rows, as in tokenizers, converting them would take a tenth of the time.

    Raises:
        ArzooError: A weight is too large for float16.
    """
    kind = torch.bfloat16 if low and storage == "bf16" and bfloat_units() else torch.float32

    def replace(layer: nn.Module) -> nn.Module | None:
        if type(layer) is nn.Linear and layer.weight.device.type == "cpu":
            return PackedLinear(layer, storage, few, kind)
        if type(layer) is nn.RMSNorm and len(layer.normalized_shape) == 1:
            return PackedNorm(layer)
        return None

    new = _copy(module, replace, {})
    for part in new.modules():
        part.training = False
    return new


def _copy(module: Any, replace: Replace, done: dict[int, nn.Module]) -> Any:
    """A copy of a module that shares its tensors, some of its layers replaced; a layer used twice stays one."""
    if id(module) in done:
        return done[id(module)]
    new = replace(module)
    if new is None:
        new = copy.copy(module)
        # A shallow copy shares these dictionaries with the original, which must keep its layers.
        for name in ("_parameters", "_buffers", "_modules"):
            setattr(new, name, dict(getattr(module, name)))
        for name, child in module._modules.items():
            new._modules[name] = None if child is None else _copy(child, replace, done)
    done[id(module)] = new
    return new


class SteadyLinear(nn.Linear):
    """A linear layer that rounds every row alike without gradients; made by `steady`."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features)."""
        if (
            torch.is_grad_enabled()
            or x.device.type != "cpu"
            or not x.dtype == self.weight.dtype == torch.float32
        ):
            return super().forward(x)
        y = alike_product(x.reshape(-1, self.in_features), self.weight, self.bias)
        return y.view(*x.shape[:-1], self.out_features)


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

    def __init__(
        self, linear: nn.Linear, storage: Storage, few: bool = False, kind: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = torch.empty(0, dtype=kind)  # networks ask their layers for a type and a device
        weight = linear.weight.detach().float().contiguous()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._product = packed_product(weight, bias, storage, few)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) float32; products in bfloat16 also take and return bfloat16.

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
