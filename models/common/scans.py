"""The scans of state-space models: by kernels of mamba-ssm and causal-conv1d where these work, else by PyTorch alone.

The kernels need a CUDA device, and an import says little: whether they were built depends on options of the build. So
each is probed once a device, on a small input, and used if it gives what plain PyTorch gives. The one switch is the
environment variable ARZOO_SCAN: `auto` (the default), or `pure` for plain PyTorch everywhere. On a CPU, in float64, and
where a kernel lacks an argument, it is always plain PyTorch.

Shapes: R rows, S tokens, D channels, H heads of P channels, G groups, N numbers per channel of the state.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.models.common.blocked_scan import blocked_scan
from arzoo.models.common.chunked_scan import chunked_scan
from arzoo.models.common.short_conv import causal_conv

SWITCH = "ARZOO_SCAN"
"""Environment variable: `auto`, or `pure` for plain PyTorch everywhere."""
KERNEL_CHUNK = 256
"""Tokens of a chunk of the kernel of Mamba-2, as published."""


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence of Mamba-1; arguments as those of `blocked_scan`.

    The kernel passes no gradient on through the state that is returned, and takes none to start from.
    """
    if state is None and _kernel("selective_scan", x):
        return _selective_kernel(x, dt, A, B, C)
    return blocked_scan(x, dt, A, B, C, state)


def grouped_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence of Mamba-2; arguments as those of `chunked_scan`."""
    if _kernel("grouped_scan", x):
        return _grouped_kernel(x, dt, A, B, C, state)
    return chunked_scan(x, dt, A, B, C, state)


def short_conv(x: Tensor, weight: Tensor, bias: Tensor, past: Tensor | None = None) -> Tensor:
    """Convolve each channel over the last tokens; arguments as those of `causal_conv`."""
    if past is None and 2 <= weight.shape[-1] <= 4 and _kernel("short_conv", x):
        return _conv_kernel(x, weight, bias)
    return causal_conv(x, weight, bias, past)


def paths(device: torch.device | str) -> dict[str, str]:
    """Return which path each scan takes on a device, with the reason where it is plain PyTorch."""
    return {name: _reason(name, torch.device(device)) or _PACKAGES[name] for name in _PACKAGES}


def _kernel(name: str, x: Tensor) -> bool:
    """Return whether a kernel runs an input."""
    return x.is_cuda and x.dtype != torch.float64 and not _reason(name, x.device)


def _reason(name: str, device: torch.device) -> str:
    """Return why a scan is plain PyTorch on a device; empty where a kernel runs.

    Raises:
        ArzooError: The switch has an unknown value.
    """
    switch = os.environ.get(SWITCH, "auto")
    if switch not in ("auto", "pure"):
        raise ArzooError(f"{SWITCH} must be auto or pure, got {switch!r}")
    if switch == "pure":
        return f"PyTorch ({SWITCH}=pure)"
    if device.type != "cuda":
        return "PyTorch"
    return _probe(name, device)


@functools.cache
def _probe(name: str, device: torch.device) -> str:
    """Run a kernel and plain PyTorch on a small input; return what is wrong with the kernel."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random).to(device)

    x, dt, B = draw(1, 8, 64), draw(1, 8, 64), draw(1, 8, 16)
    heads = x.view(1, 8, 2, 32), dt[..., :2], -draw(2), B[:, :, None], B[:, :, None]
    rates, weight, bias = -draw(16, 64), draw(64, 1, 4), draw(64)
    inputs: dict[str, tuple[Tensor, ...]] = {
        "selective_scan": (x, dt, rates, B, B), "grouped_scan": heads, "short_conv": (x, weight, bias),
    }  # fmt: skip
    kernel, plain = _KERNELS[name]
    try:
        pairs = zip(_parts(kernel(*inputs[name])), _parts(plain(*inputs[name])), strict=True)
        right = all(torch.allclose(a.float(), b.float(), atol=1e-2, rtol=1e-2) for a, b in pairs)
    except ImportError:
        return f"PyTorch ({_PACKAGES[name]} is not installed, or was built without this kernel)"
    except Exception as error:  # kernels fail in many ways
        reason = [*str(error).splitlines(), type(error).__name__][0]
        return f"PyTorch ({_PACKAGES[name]} fails: {reason})"
    return "" if right else f"PyTorch ({_PACKAGES[name]} gives other numbers)"


def _parts(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


def _selective_kernel(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    scan = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    inputs = [part.transpose(1, 2).contiguous() for part in (x, dt.to(x.dtype))]
    vectors = [part.to(x.dtype).transpose(1, 2).contiguous() for part in (B, C)]
    y, state = scan(*inputs, A.float().t().contiguous(), *vectors, return_last_state=True)
    return y.transpose(1, 2), state.float().transpose(1, 2)


def _grouped_kernel(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    scan = import_module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
    B, C = (part.to(x.dtype).contiguous() for part in (B, C))
    y, last = scan(
        x.contiguous(),
        dt.contiguous(),
        A.float(),
        B,
        C,
        KERNEL_CHUNK,
        initial_states=state,
        return_final_states=True,
    )
    return y, last.float()


def _conv_kernel(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    convolve = import_module("causal_conv1d").causal_conv1d_fn
    # A view whose channels are neighbors in memory, which the kernel reads as it is.
    y: Tensor = convolve(x.contiguous().transpose(1, 2), weight[:, 0].to(x.dtype), bias.to(x.dtype))
    return y.transpose(1, 2)


_PACKAGES = {"selective_scan": "mamba-ssm", "grouped_scan": "mamba-ssm", "short_conv": "causal-conv1d"}
_KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "selective_scan": (_selective_kernel, blocked_scan),
    "grouped_scan": (_grouped_kernel, chunked_scan),
    "short_conv": (_conv_kernel, causal_conv),
}
