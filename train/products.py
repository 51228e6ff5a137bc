"""Matrix products of linear layers in training on a CPU, with oneDNN where torch would use MKL.

On the one processor where it was measured (AMD, AVX-512), MKL multiplies float32 matrices at half the speed of oneDNN:
514 rows by 768 x 4096 on one thread take 33 ms in MKL and 16 ms in oneDNN, and the two products of the backward pass 31
and 31 ms against 19 and 16 ms. Only roundings differ. torch has no switch for it.
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import register_flop_formula

LEAST = 1 << 20
"""Multiplications of a product below which the overhead of a Python function is not worth it."""


def fast_products() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which oneDNN computes large float32 `F.linear` on a CPU, forward and backward.

    It changes nothing on Intel processors, in builds of torch without the operator, and for other types.
    """
    return _Products() if _is_faster() else contextlib.nullcontext()


class _Products(TorchFunctionMode):
    """Replaces calls of `F.linear`."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.linear and not named and _fits(*arguments):
            return _Linear.apply(*arguments, *[None] * (3 - len(arguments)))
        return function(*arguments, **(named or {}))


class _Linear(torch.autograd.Function):
    """A linear layer and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        rows, flat = gradient.reshape(-1, len(weight)), x.reshape(-1, x.shape[-1])
        # A second derivative needs differentiable products.
        multiply = F.linear if torch.is_grad_enabled() else _multiply
        dx = multiply(rows, weight.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        dw = multiply(rows.t(), flat.t()) if ctx.needs_input_grad[1] else None
        return dx, dw, rows.sum(0) if ctx.needs_input_grad[2] else None


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (R, n) times weight (m, n) transposed; both may be transposed views."""
    x, weight = _dense(x), _dense(weight)
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def _dense(matrix: Tensor) -> Tensor:
    """Copy a matrix whose rows or columns do not follow each other in memory, such as one position of a sequence.

    With such a `weight` oneDNN falls back to plain loops, a thousand times slower.
    """
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def _fits(x: Any, weight: Any, bias: Any = None) -> bool:
    tensors = [value for value in (x, weight, bias) if value is not None]
    return (
        all(value.device.type == "cpu" and value.dtype == torch.float32 for value in tensors)
        and weight.dim() == 2
        and x.numel() * len(weight) >= LEAST
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


@functools.cache
def _is_faster() -> bool:
    """Return whether oneDNN is faster on this processor and its operator is correct."""
    if "GenuineIntel" in _vendor() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    x, weight = torch.linspace(-1, 1, 3 * 32).view(3, 32), torch.linspace(-1, 1, 64 * 32).view(32, 64).t()
    try:
        with torch.no_grad():
            product = _multiply(x, weight)
    except (RuntimeError, NotImplementedError, TypeError):
        return False
    return torch.allclose(product, F.linear(x, weight), atol=1e-4)


def _vendor() -> str:
    """Vendor of the processor on Linux; elsewhere the platform's description of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("vendor_id")), "")


def _operations(x: Sequence[int], weight: Sequence[int], *rest: Any, **named: Any) -> int:
    """Operations of a product, for torch's counter."""
    return 2 * x[0] * x[1] * weight[0]


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_operations)
