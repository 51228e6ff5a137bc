"""Optimizers of a module: which parameter gets which rule, learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.contracts import repeated_blocks
from arzoo.generation.kernels import bfloat_units
from arzoo.train.settings import OptimConfig


def optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of a module.

    Every group carries `scale`, its learning rate over that of the schedule.

    Raises:
        ArzooError: A pattern matches no parameter, or Muon is asked for and this timm has none.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    _refuse_idle("optim.no_decay", config.no_decay, named)
    taken = matrices(module, config) if config.name == "muon" else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        decayed = parameter.dim() >= 2 and not _matches(name, config.no_decay)
        groups.setdefault((name in taken, decayed), []).append(parameter)
    options = []
    for (matrix, decayed), parameters in groups.items():
        option = {"params": parameters, "weight_decay": config.weight_decay if decayed else 0.0}
        option["scale"] = (config.matrix_lr or config.lr) / config.lr if matrix else 1.0
        options.append(option | ({"use_fallback": not matrix} if config.name == "muon" else {}))
    if config.name == "muon":
        return _muon()(options, lr=config.lr, momentum=config.momentum, betas=config.betas)
    return torch.optim.AdamW(options, lr=config.lr, betas=config.betas)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def matrices(module: nn.Module, config: OptimConfig) -> set[str]:
    """Names of the parameters that Muon takes: those the settings name, or else the matrices inside repeated blocks.

    Raises:
        ArzooError: There is none.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad and p.dim() == 2}
    if config.matrices:
        taken = {name for name in named if _matches(name, config.matrices)}
    else:
        inside = {p for block in repeated_blocks(module) for p in block.parameters()}
        taken = {name for name, p in named.items() if p in inside}
    if not taken:
        which = (
            f"optim.matrices={list(config.matrices)} names no matrix"
            if config.matrices
            else "no matrix lies inside a block"
        )
        raise ArzooError(
            f"{which} of {type(module).__name__}, so Muon would have nothing to do. Its matrices: "
            f"{', '.join([*named][:4]) or 'none'}. Name some with optim.matrices, or use --optim.name adamw"
        )
    return taken


def _muon() -> Callable[..., torch.optim.Optimizer]:
    """timm's Muon ("Muon is Scalable for LLM Training", 2025): torch's own takes no parameters but matrices."""
    try:
        from timm.optim import muon
    except ImportError as error:
        import timm

        raise ArzooError(
            f"optim.name=muon needs timm 1.0.20 or later, this is {timm.__version__}. Upgrade with: pip install "
            "--upgrade timm, or use --optim.name adamw"
        ) from error
    orthogonal: Any = muon.zeropower_via_newtonschulz

    def as_fast(matrix: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        slow = matrix.device.type == "cpu" and not bfloat_units()
        return orthogonal(matrix, *args, dtype=torch.float32 if slow else torch.bfloat16, **kwargs)

    class Muon(muon.Muon):
        """timm's computes in bfloat16, which takes eighty times as long on processors without units for it."""

        def step(self, closure: Any = None) -> Any:
            with mock.patch.object(muon, "zeropower_via_newtonschulz", as_fast):
                return super().step(closure)

    return Muon


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _refuse_idle(setting: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """A pattern that matches nothing is a mistake."""
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ArzooError(
                f"{setting} has {pattern!r}, which matches no parameter. They are named like "
                f"{', '.join(names[:4])}"
            )
