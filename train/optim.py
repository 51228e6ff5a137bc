"""Optimizers of a module: which parameter gets which rule, learning rate and weight decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.blocks import repeated_blocks
from arzoo.generation.kernels import bfloat_units
from arzoo.train.settings import OptimConfig


def optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Create the optimizer of the trainable parameters of a module.

    Every group has an entry `scale`: its learning rate divided by that of the schedule.

    Raises:
        ArzooError: A pattern matches no parameter, or Muon is chosen and the installed timm does not have it.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    _refuse_idle("optim.no_decay", config.no_decay, named)
    taken = matrices(module, config) if config.name == "muon" else set()
    vectors = undecayed(module)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        decayed = parameter.dim() >= 2 and name not in vectors and not _matches(name, config.no_decay)
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
    """Set the learning rate of every group to `lr` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def undecayed(module: nn.Module) -> set[str]:
    """Return the names of the parameters that their modules call `undecayed`: tables of numbers rather than matrices.

    They have no weight decay, whatever their shape, and Muon leaves them to AdamW.
    """
    return _called(module, "undecayed")


def _called(module: nn.Module, kind: str) -> set[str]:
    """Return the names of the parameters that their modules list under an attribute."""
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in module.named_modules()
        for name in getattr(part, kind, ())
    }


def matrices(module: nn.Module, config: OptimConfig) -> set[str]:
    """Return the names of the parameters for Muon: those of the settings, or else the matrices in repeated blocks.

    A kernel of a convolution that the settings name counts as the matrix (outputs, inputs x size).

    Raises:
        ArzooError: There are none.
    """
    most = math.inf if config.matrices else 2
    named = {name: p for name, p in module.named_parameters() if p.requires_grad and 2 <= p.dim() <= most}
    if config.matrices:
        taken = {name for name in named if _matches(name, config.matrices)}
    else:
        inside = {p for block in repeated_blocks(module) for p in block.parameters()}
        taken = {name for name, p in named.items() if p in inside}
        # `decayed_tables` are no matrices either, and lose weight as published.
        taken -= undecayed(module) | _called(module, "decayed_tables")
    if not taken:
        which = (
            f"optim.matrices={list(config.matrices)} names no matrix"
            if config.matrices
            else "no matrix lies inside a block"
        )
        raise ArzooError(
            f"{which} of the model, so Muon would have nothing to do. Its matrices: "
            f"{', '.join([*named][:4]) or 'none'}. Name some with optim.matrices, or use --optim.name adamw"
        )
    return taken


def _muon() -> Callable[..., torch.optim.Optimizer]:
    """Return timm's Muon ("Muon is Scalable for LLM Training", 2025); torch's own accepts only matrices."""
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
        """Computes in float32 on processors without bfloat16 units, where bfloat16 takes eighty times as long."""

        def step(self, closure: Any = None) -> Any:
            with mock.patch.object(muon, "zeropower_via_newtonschulz", as_fast):
                return super().step(closure)

    return Muon


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _refuse_idle(setting: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Refuse a pattern that matches no parameter."""
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ArzooError(
                f"{setting} has {pattern!r}, which matches no parameter. They are named like "
                f"{', '.join(names[:4])}"
            )
