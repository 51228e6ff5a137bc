"""Objective of generators: predict the tokens of a frozen tokenizer in the order of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core import pyramid
from arzoo.core.control import Control
from arzoo.core.draws import Draws, sample_draws, step_rng
from arzoo.core.ends import counted
from arzoo.core.layout import Pyramid
from arzoo.core.tokens import Tokens
from arzoo.data.codes import Codes, refuse_other_codes, refuse_other_lengths
from arzoo.generation.drawings import DrawingStep, so_far
from arzoo.generation.generator import Generator
from arzoo.samplers.loop import check_settings
from arzoo.samplers.plans.samples import ORDER
from arzoo.samplers.schedules import falling, over_steps, over_tokens
from arzoo.train.clips import LEVELS_OF, SHOWN, noun, sheet
from arzoo.train.conditions import Captions, Labels
from arzoo.train.example import (
    Example,
    TokenLoss,
    context_of,
    hide,
    hide_some,
    hide_stages,
    refuse_groups,
    shuffled,
    validation_examples,
)
from arzoo.train.gaps import gaps, in_words, without_guidance
from arzoo.train.mixture import refuse_mixture
from arzoo.train.objective import DATA, LOSS, Metrics, Objective, Sampler, balanced_weights
from arzoo.train.run.health import code_entropy, entropy, hidden_by_step, loss_by_step
from arzoo.train.settings import GeneratorLoss
from arzoo.train.stages import stage_weights


def sampling(settings: GeneratorLoss, discrete: bool) -> Control:
    """Return the control of previews, which is also saved with the checkpoint."""
    rising = {"steps": over_steps, "tokens": over_tokens}.get(settings.guidance_over)
    return Control(
        guidance=rising(1.0, settings.guidance) if rising else settings.guidance,
        top_k=settings.top_k if discrete else 0,
        temperature=falling(settings.temperature)
        if settings.temperature_over == "steps"
        else settings.temperature,
        head_steps=settings.head_steps,
        max_timestep=settings.max_timestep or None,
    )


def refuse_settings(model: Generator, settings: GeneratorLoss) -> None:
    """Refuse settings that a generator cannot be trained or drawn with, which needs no codes.

    Raises:
        ArzooError: The head cannot draw with the settings of previews, or random orders or a mixture of losses do not
            suit the plan.
    """
    plan = model.plan()
    check_settings(model, plan, [sampling(settings, model.tokenizer.spec.discrete)] * plan.stages)
    if settings.mixture.mixes:
        refuse_mixture(model, plan, settings.mixture)
    if settings.random_orders:
        refuse_groups(plan)
        if model.spec.ends:
            raise ArzooError(
                "generator.random_orders shuffles all positions, and in pictures of unlike numbers of tokens those "
                "after the end mean nothing: leave random_orders out, or train on tokens of a fixed number"
            )


class GeneratorObjective(Objective):
    """Trains backbone and head on cached codes.

    Args:
        model: The generator to train.
        train: Codes of the training split.
        validation: Codes of the validation split.
        settings: Settings of the training.
        balance: Classes are drawn with frequency to the power 1 - balance.
        seed: Seed of the order of the data.
        conditions: Conditions of the training and of the validation pictures; their classes by default.
    """

    def __init__(
        self,
        model: Generator,
        train: Codes,
        validation: Codes,
        settings: GeneratorLoss,
        balance: float,
        seed: int,
        conditions: Sequence[Labels | Captions] = (),
    ) -> None:
        refuse_settings(model, settings)
        refuse_other_codes((train, validation), model.tokenizer_hash, model.tokenizer.config.hash())
        refuse_other_lengths((train, validation), model.spec)
        self.model, self.codes, self.validation, self.settings = model, train, validation, settings
        self.conditions = list(conditions) or [Labels(train.labels), Labels(validation.labels)]
        self.plan = model.plan()
        self.context = context_of(model.backbone, self.plan, settings.context == "noisy")
        model.untrained = gaps(train, model.classes, settings.label_dropout)
        model.control = without_guidance(sampling(settings, model.tokenizer.spec.discrete), model.untrained)
        network = self.network()
        self.parts, self.sourced = {"model": network}, network.sourced
        self.frozen = (model.tokenizer,)
        weights = balanced_weights(train.labels, balance) if balance else None
        self.sampler, self.seed = Sampler(len(train.labels), seed, weights), seed
        self.mean_count = float(self._counted(_some(train)).sum(1).float().mean()) if self.ends else 0.0

    def network(self) -> TokenLoss:
        """Build the module that is trained."""
        return TokenLoss(self.model.backbone, self.model.heads, self.plan)

    @property
    def ends(self) -> bool:
        """Whether the generator learns where a picture ends; positions after that carry no loss."""
        return self.model.spec.ends

    def _counted(self, targets: Tensor) -> Tensor:
        """Return which of the predicted tokens (B, m) bool count, of targets (B, N)."""
        count = counted(targets, self.model.spec)
        return count if self.sourced is None else count[:, self.sourced.to(count.device)]

    def batch(self, step: int, numbers: Sequence[int]) -> Example:
        """Return the example of some samples: noisy inputs, targets and conditions."""
        rows, draws = self.sampler.rows(numbers), sample_draws(self.seed, numbers, DATA)
        variants = draws.integers((len(rows),), self.codes.variants)
        targets = self._canvas(self.codes.draw(variants, rows, draws, self.settings.posterior_noise))
        drop = draws.uniform((len(rows),)) < self.settings.label_dropout
        values = targets
        if self.settings.token_noise and self.codes.spec.discrete:
            other = draws.integers(targets.shape, self.codes.spec.vocab)
            values = torch.where(draws.uniform(targets.shape) < self.settings.token_noise, other, targets)
        cond = self.conditions[0].cond(rows, drop, draws)
        orders = shuffled(self.plan, draws, self.settings.random_share(step))
        example = Example(values, targets, cond, sample_draws(self.seed, numbers, LOSS), plan=orders)
        if self.plan.stages > 1:
            unseen = draws.uniform((len(rows),)) <= 1 - self.settings.share_shown(step)
            later = replace(cond, drop=draws.uniform((len(rows),)) < self.settings.label_dropout)
            example = replace(example, unseen=unseen, later=later)
        shared = step_rng(self.seed, step)
        return hide(example, self.context, draws, shared, self.settings.least_masked, self.plan)

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Example, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the mean loss per token and, except for masked models, by step of the plan: see `validate`."""
        each = parts[name](batch)
        if batch.asked is not None:
            return self._weighted(each, batch).mean(), {}
        if self.ends:
            count = self._counted(batch.targets)
            # Divided by the mean of the data, not of the micro-batch: every token weighs the same in any division.
            loss = (each * count).sum() / (len(each) * self.mean_count)
            return loss, {"loss_by_step": loss_by_step(each.detach(), self.plan, self.sourced, count)}
        return each.mean(), {
            "loss_by_step": loss_by_step(each.detach(), batch.plan or self.plan, self.sourced)
        }

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute the loss per token on clean validation codes and on as many training codes, and entropies."""
        device = next(model.parameters()).device
        figures: Metrics = {}
        for name, codes, conditions in (
            ("validation", self.validation, self.conditions[1]),
            ("train", self.codes, self.conditions[0]),
        ):
            losses = [
                self._weighted(self._only_counted(model(example.to(device)), example), example)
                for example in self._clean(codes, conditions)
            ]
            figures[f"{name}_loss"] = float(sum(x.sum() for x in losses) / sum(x.numel() for x in losses))
        if self._has_entropy and self.context == "true":
            example = next(self._clean(self.validation, self.conditions[1])).to(device)
            spread, count = _spread(model, example), self._counted(example.targets) if self.ends else None
            figures["token_entropy"] = float(self._only_counted(spread, example).mean())
            figures["token_entropy_by_step"] = loss_by_step(spread, self.plan, self.sourced, count)
        return figures | (self._by_hidden(model, device) if self.context == "masked" else {})

    @property
    def _has_entropy(self) -> bool:
        """Whether the entropy of the distributions of codes is measured."""
        return self.codes.spec.discrete and self.codes.spec.codebooks == 1 and self.plan.stages == 1

    def _weighted(self, each: Tensor, example: Example) -> Tensor:
        """Return losses (B, m) of hidden tokens, weighted by their stages if the plan has several."""
        if not example.counts:
            return each
        weights = self.model.backbone.stage_weights
        return each * stage_weights(self.plan, self.model.heads, weights, example.counts).to(each)

    def _only_counted(self, each: Tensor, example: Example) -> Tensor:
        """Return the numbers of the tokens that count, of (B, m) numbers a token."""
        return each[self._counted(example.targets.to(each.device))] if self.ends else each

    def _by_hidden(self, model: nn.Module, device: torch.device) -> Metrics:
        """Loss per token, and entropy of codes, with as many tokens hidden as before each step of the plan."""
        count = len(self.validation.labels)
        rows = torch.linspace(0, count - 1, min(count, 128)).long()
        cond = self.conditions[1].cond(rows)
        values = self._canvas(self.validation.rows(torch.zeros_like(rows), rows))
        losses, spreads = [], []
        for k, (hidden, stage) in enumerate(hidden_by_step(self.plan)):
            visible = Example(values, values, cond, Draws(rows.tolist(), k))
            draws = visible.draws.at(ORDER - k)
            if self.plan.stages > 1:
                counts = [self.plan.stage_layout(s).size for s in range(self.plan.stages)]
                counts[stage] = hidden
                example = hide_stages(visible, self.plan, counts, draws).to(device)
                losses.append(model(example).split(counts, 1)[stage].mean())
                continue
            example = hide_some(visible, hidden, draws).to(device)
            losses.append(model(example).mean())
            if self._has_entropy:
                spreads.append(_spread(model, example).mean())
        figures: Metrics = {"validation_loss_by_step": torch.stack(losses)}
        if spreads:
            figures["token_entropy_by_step"] = torch.stack(spreads)
            figures["token_entropy"] = float(torch.stack(spreads).mean())
        return figures

    def _clean(self, codes: Codes, conditions: Labels | Captions) -> Iterator[Example]:
        """Examples of clean pictures spread over a split, as many as the validation split has."""
        count = len(codes.labels)
        pick = torch.linspace(0, count - 1, min(count, len(self.validation.labels))).long()
        for rows in pick.split(128):
            yield from self._clean_examples(codes, conditions, rows)

    def _clean_examples(self, codes: Codes, conditions: Labels | Captions, rows: Tensor) -> Iterator[Example]:
        values = self._canvas(codes.rows(torch.zeros_like(rows), rows))
        yield from validation_examples(values, conditions.cond(rows), rows, self.context, self.plan)

    def _canvas(self, values: Tensor) -> Tensor:
        """Return values of the tokenizer's tokens, or of all levels of a pyramid over them."""
        return pyramid.on_canvas(Tokens.of(values), self.plan.layout).values

    @property
    def _shown(self) -> Generator:
        """The generator whose samples previews show."""
        return self.model

    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save a sheet of guided samples with fixed seeds and conditions spread over the validation data.

        Of a pyramid, also save some of them as they look when each of its levels is drawn.
        """
        sampler = self._shown.with_weights(model.backbone, model.heads)  # type: ignore[arg-type]
        count = 32 if self.model.tokenizer.frames == 1 else SHOWN
        rows = torch.linspace(0, len(self.validation.labels) - 1, count).long()
        layout, some, levels = self.plan.layout, torch.arange(0, count, max(count // LEVELS_OF, 1)), []
        ends = set[int]()
        if isinstance(layout, Pyramid):
            ends = {int(self.plan.rank[..., layout.span(level)].max()) for level in range(len(layout.levels))}

        def watch(_: Tensor, drawing: DrawingStep) -> None:
            if drawing.k in ends:
                levels.append(so_far(sampler, drawing.run.tokens.select(some)).tensor)

        drawings = sampler.generate(
            seeds=list(range(count)),
            batch=count,
            given=self._given(rows),
            watch=watch,
            **self.conditions[1].request(rows),
        )
        titles = self.conditions[1].titles(rows, self.codes.classes)
        sheet(drawings, columns=8, captions=titles).save(folder / f"samples_{step:07d}.png")
        if levels:
            sheet(torch.stack(levels, 1).flatten(0, 1), len(levels)).save(folder / f"levels_{step:07d}.png")

    def _given(self, rows: Tensor) -> Tokens | None:
        """Validation tokens with those that the plan predicts without an input given; None if there are none."""
        if self.sourced is None:
            return None
        values = self.validation.rows(torch.zeros_like(rows), rows)
        return Tokens.of(values, self.plan.unsourced.expand(len(rows), -1))

    def export(
        self,
        model: nn.Module,
        folder: Path,
        metrics: Metrics,
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the generator as a checkpoint folder."""
        self.model.with_weights(model.backbone, model.heads).save(folder, metrics, record, add)  # type: ignore[arg-type]

    @property
    def units(self) -> str:
        """What the samples of a step are called, in the plural."""
        return f"{noun(self.model.tokenizer.frames)}s"

    def summary(self) -> dict[str, Any]:
        """Return facts about data, plan and size."""
        kind = noun(self.model.tokenizer.frames)
        return {
            f"{kind}s": len(self.codes.labels),
            "variants": self.codes.variants,
            f"tokens per {kind}": self._length_in_words(),
            "plan": str(self.plan),
            **in_words(
                self.model.untrained, len(self.codes.classes), self.model.text, self.conditions[0].captions
            ),
            **self._baselines(),
            "model parameters": sum(p.numel() for p in self.parts["model"].parameters()),
        }

    def _length_in_words(self) -> int | str:
        size = self.codes.spec.layout.size
        if not self.codes.variable:
            return size
        count = self.codes.token_counts()
        return f"{int(count.min())} to {int(count.max())} of {size}, {float(count.float().mean()):.1f} on average"

    def _baselines(self) -> dict[str, Any]:
        """Loss per token of a uniform distribution, and of one that knows only the frequency of codes."""
        spec = self.model.spec
        if not spec.discrete:
            return {}
        values = _some(self.codes)
        seen = code_entropy(values[counted(values, spec)] if self.ends else values, spec.vocab)
        return {"uniform loss": round(math.log(spec.vocab), 3), "unigram loss": round(seen, 3)}


def _some(codes: Codes) -> Tensor:
    """Canvas of up to 4096 clean pictures spread over a split."""
    count = len(codes.labels)
    some = torch.linspace(0, count - 1, min(count, 4096)).long()
    return codes.rows(torch.zeros_like(some), some)


def _spread(network: Any, example: Example) -> Tensor:
    """Entropy (B, m) in nats of the distributions of codes that the network predicts."""
    read, _ = network.read(example)
    return entropy(network.heads[0].predict(read))
