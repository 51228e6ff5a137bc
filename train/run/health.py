"""Numbers about the health of a training, and the search for the first value that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.plan import Plan
from arzoo.train.devices import local

_STRETCHES = 16


def loss_by_step(
    loss: Tensor, plan: Plan, positions: Tensor | None = None, counted: Tensor | None = None
) -> Tensor:
    """Compute the mean loss over the plan's steps, early to late.

    Args:
        loss: (B, m) loss of every token.
        plan: The order, which has the step of each token.
        positions: (m,) positions of the tokens; None means all N.
        counted: (B, m) bool, tokens that count; None means all.

    Returns:
        (K,) one number per step with a loss, 0 where no token counts; a plan of more than 16 steps is divided into 16
        stretches.
    """
    rank = plan.rank.clamp(min=0)
    rank = rank if positions is None else rank[..., positions.to(rank.device)]
    _, stretch = (rank * min(len(plan), _STRETCHES) // len(plan)).unique(return_inverse=True)
    count = int(stretch.max()) + 1
    stretch = stretch.to(loss.device).expand(len(loss), -1).flatten()
    out = loss.new_zeros(count)
    shares = torch.ones_like(loss) if counted is None else counted.to(loss.dtype)
    total = out.scatter_add(0, stretch, (loss * shares).flatten())
    return total / out.scatter_add(0, stretch, shares.flatten()).clamp(min=1)


def hidden_by_step(plan: Plan) -> list[tuple[int, int]]:
    """Return the number of tokens without a value before the first step of every stretch of a plan, early to late.

    Tokens of the stage of that step are counted, which is returned beside them.
    """
    count = min(len(plan), _STRETCHES)
    progress = [plan.progress(-(-k * len(plan) // count)) for k in range(count)]
    return [(p.total - p.done, p.stage) for p in progress]


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy (...) in nats of the distributions of logits (..., V)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def code_entropy(codes: Tensor, vocab: int) -> float:
    """Compute the entropy in nats of the frequencies of codes: the loss of a model that knows only these."""
    share = torch.bincount(codes.flatten(), minlength=vocab).double() / codes.numel()
    return float(torch.special.entr(share).sum())


class UpdateRatio:
    """Size of one update relative to the weights, about 1e-3 in a healthy training.

    Args:
        module: The module before the update.
    """

    def __init__(self, module: nn.Module) -> None:
        self._weights = [local(p) for p in module.parameters() if p.requires_grad]
        self._before = [weight.clone() for weight in self._weights]

    def measure(self) -> Tensor:
        """Compute the norm of the change since construction divided by the norm of the weights."""
        pairs = zip(self._weights, self._before, strict=True)
        change = sum((after - before).float().square().sum() for after, before in pairs)
        size = sum(before.float().square().sum() for before in self._before)
        return torch.as_tensor(change / size).sqrt()


def first_bad_module(module: nn.Module, forward: Callable[[], Tensor | None]) -> str | None:
    """Find where the first value that is not finite appears.

    Args:
        module: The module that runs inside `forward`; its gradients must be zero.
        forward: Computes the loss once more.

    Returns:
        A description that names a weight, the module with the earliest bad output in the forward pass, or the last
        module with a bad gradient (the backward pass reaches that one first). None if all values are finite.
    """
    for name, value in module.named_parameters():
        if not _finite(local(value)):
            return f"the weight {name!r}"
    culprits: list[str] = []
    handles = [
        inner.register_forward_hook(_watch(name or type(module).__name__, culprits))
        for name, inner in module.named_modules()
    ]
    try:
        loss = forward()
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return culprits[0]
    if loss is None:
        return None
    if not _finite(loss):
        return f"the loss, computed from finite outputs of {type(module).__name__}"
    loss.backward()
    bad = [n for n, p in module.named_parameters() if p.grad is not None and not _finite(local(p.grad))]
    return f"the gradient of {bad[-1].rpartition('.')[0]!r} ({bad[-1]})" if bad else None


def to_plain(line: dict[str, Any]) -> dict[str, Any]:
    """Convert numbers to log to plain floats, and vectors to lists."""
    return {name: _plain(value) for name, value in line.items()}


def rounded(value: float | Sequence[float]) -> float | list[float]:
    """Round a number to six decimals, or to six digits if it is smaller than one; those of a list to four digits."""
    if isinstance(value, Sequence):
        return [float(f"{v:.4g}") for v in value]
    return round(value, 6) if not math.isfinite(value) or abs(value) >= 1 else float(f"{value:.6g}")


def _plain(value: Any) -> float | list[float]:
    if isinstance(value, Tensor):
        return float(value) if value.dim() == 0 else value.tolist()
    return value if isinstance(value, list) else float(value)


def _watch(name: str, culprits: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if culprits or all(_finite(value) for value in _tensors(output)):
            return
        # A module with a bad input is not the culprit: its caller computed that input.
        finite_inputs = all(_finite(value) for value in _tensors(inputs))
        what = "the output" if finite_inputs else "the input"
        culprits.append(f"{what} of {name!r} ({type(module).__name__})")

    return hook


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if hasattr(value, "__dict__"):
        return [tensor for item in vars(value).values() for tensor in _tensors(item)]
    return []


def _finite(value: Tensor) -> bool:
    return bool(value.detach().isfinite().all())


def not_finite(step: int, culprit: str | None, last: Path | None, out: Path, lower: float) -> ArzooError:
    """Return the error for a value that is not finite, with a remedy.

    Args:
        step: Number of the failed step, from 1.
        culprit: Where the first such value is; None if it did not appear again.
        last: The last saved state.
        out: Folder of the run.
        lower: A learning rate to try.
    """
    if last is None:
        remedy = "No state was saved yet. Start again in a new folder with a lower rate: arzoo train RECIPE"
    else:
        remedy = f"The last good state is {last}. Go on from it in a new folder with other settings: "
        remedy += f"arzoo train RECIPE --resume {out}"
    return ArzooError(
        f"a value is not finite in step {step}; the first is {culprit or 'not found again'}. The step was not taken. "
        f"{remedy} --out NEW --optim.lr {lower:.1g}"
    )
