"""Objective of generators that are trained with a mixture of losses, see `arzoo.train.mixture`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.core.draws import Draws, sample_draws, step_rng
from arzoo.data.codes import Codes
from arzoo.generation.generator import Generator
from arzoo.models.tokenunify.pretraining import SHARES
from arzoo.samplers.plans.samples import ORDER
from arzoo.train.example import TokenLoss
from arzoo.train.generator import GeneratorObjective
from arzoo.train.mixture import MixedExample, MixedLoss, mixed
from arzoo.train.objective import MIXTURE, Metrics
from arzoo.train.run.health import loss_by_step
from arzoo.train.settings import GeneratorLoss


class MixtureObjective(GeneratorObjective):
    """Trains a causal generator with several losses at once.

    Arguments as for `GeneratorObjective`, and `steps`, the optimizer steps of the run, which a curriculum follows.
    """

    def __init__(
        self,
        model: Generator,
        train: Codes,
        validation: Codes,
        settings: GeneratorLoss,
        *more: Any,
        steps: int,
    ) -> None:
        self.mixture, self.steps = settings.mixture, steps
        super().__init__(model, train, validation, settings, *more)

    def network(self) -> TokenLoss:
        """Build the module that is trained."""
        return MixedLoss(self.model.backbone, self.model.heads, self.plan, self.mixture.terms)

    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Return the example of some samples, their hidden tokens and the pairs of prefixes and later tokens."""
        uniform = float(torch.rand((), generator=step_rng(self.seed, step), dtype=torch.float64))
        low, high = SHARES
        share = low + uniform * (high - low)
        draws = sample_draws(self.seed, numbers, MIXTURE)
        return mixed(super().batch(step, numbers), self.mixture.terms, draws, share)

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the weighted sum of the mean losses; each is logged, and its weight if it changes."""
        losses = parts[name](batch)
        weights = self.mixture.weights(step / self.steps)
        means = {term: each.mean() for term, each in losses.items()}
        total = torch.stack([weights[term] * mean for term, mean in means.items()]).sum()
        numbers: Metrics = {f"{term}_loss": means[term] for term in weights}
        if self.mixture.curriculum:
            numbers |= {f"{term}_weight": weight for term, weight in weights.items()}
        if "next" in losses:
            order = batch.plain.plan or self.plan
            numbers["loss_by_step"] = loss_by_step(losses["next"].detach(), order)
        return total, numbers

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute the figures of any generator, where `validation_loss` is that of the next token, and each loss."""
        figures = super().validate(model)
        device, sums = next(model.parameters()).device, dict[str, list[Tensor]]()
        share = sum(SHARES) / 2
        for i, example in enumerate(self._clean(self.validation, self.conditions[1])):
            draws = Draws(example.draws.seeds).at(ORDER, attempt=i)
            batch: MixedExample = mixed(example, self.mixture.terms, draws, share)
            for term, each in model(batch.to(device)).items():
                sums.setdefault(term, []).append(each.flatten())
        return figures | {
            f"validation_{term}_loss": float(torch.cat(sums[term]).mean()) for term in self.mixture.terms
        }

    def summary(self) -> dict[str, Any]:
        """Return facts about data, plan, size and losses."""
        weights = self.mixture.weights(0.0)
        begin = "at first, by the curriculum" if self.mixture.curriculum else "throughout"
        words = ", ".join(f"{term} {weight:.2f}" for term, weight in weights.items())
        return super().summary() | {"losses": f"{words} {begin}"}
