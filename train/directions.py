"""One objective for both directions: pictures from their captions, and captions from their pictures.

"LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026 (DiNA): all tokens are discrete, and one network
predicts the next one, be it of a text or of a picture. A sample goes one way. As in the published training code a text
token weighs 1, a position of a picture 0.25 for each of its codes, and the sum is divided by the number of both.

Shapes: B samples, b of one direction, N positions, L ids of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.ends import counted
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.generation.describer import Describer
from arzoo.train.conditions import Captions
from arzoo.train.example import Example, TokenLoss
from arzoo.train.generator import GeneratorObjective
from arzoo.train.noise import of_rows
from arzoo.train.objective import Metrics
from arzoo.train.recipe import Recipe
from arzoo.train.run.health import loss_by_step

CODE_WEIGHT = 0.25
"""Weight of the loss of one code of a picture; that of one token of a text is 1."""


def refuse_describing(recipe: Recipe) -> None:
    """Refuse a recipe whose model cannot learn to describe pictures, or has a head for it that nothing trains.

    Raises:
        ArzooError: The backbone draws no texts, there are no captions, or other losses are mixed in.
    """
    share, name = recipe.generator.describe, recipe.model.name
    if not share:
        if recipe.model.settings.get("describes"):
            raise ArzooError(
                "model.describes=true adds a head for texts, which generator.describe=0 does not train: set "
                "generator.describe=0.5, and leave model.describes out"
            )
        return
    why = ""
    if not registry.lookup("backbone", name)().has("describes"):
        why = f"backbone {name!r} draws pictures only: take one of the family longcat, such as longcat_tiny"
    elif not recipe.text:
        why = "there are no captions: set text=bytes"
    elif recipe.generator.mixture.mixes:
        why = "generator.mixture trains pictures only: leave mixture out"
    if why:
        raise ArzooError(
            f"generator.describe={share:g} also trains captions from pictures, and {why}; or leave describe out"
        )


@dataclass(frozen=True)
class Both:
    """A micro-batch whose samples go different ways.

    Attributes:
        pictures: Samples whose picture is predicted.
        texts: Samples whose caption is predicted.
        rows: Rows of the micro-batch that are in either.
        counts: (b,) for either, 1 for each sample. A direction without any has one with 0, so that every micro-batch
            has a gradient for all weights, as several processes need.
    """

    pictures: Example
    texts: Example
    rows: tuple[list[int], list[int]]
    counts: tuple[Tensor, Tensor]

    def to(self, device: torch.device | str) -> Both:
        """Return the micro-batch on another device."""
        first, second = (count.to(device) for count in self.counts)
        return replace(
            self, pictures=self.pictures.to(device), texts=self.texts.to(device), counts=(first, second)
        )


class BothLoss(TokenLoss):
    """Backbone and heads as one module whose forward is the losses of both directions."""

    def __init__(self, backbone: Any, heads: Any, plan: Any) -> None:
        super().__init__(backbone, heads, plan)
        self.text_plan = Describer(backbone).plan

    def forward(self, example: Any) -> Any:
        """Compute the losses (b, N) of pictures and (b, L) of texts; of an `Example`, of what it asks for."""
        if isinstance(example, Example):
            return super().forward(example) if example.cond.prefix is None else self._texts(example)
        with of_rows(example.rows[0]):
            pictures = super().forward(example.pictures)
        with of_rows(example.rows[1]):
            return pictures, self._texts(example.texts)

    def _texts(self, example: Example) -> Tensor:
        assert self.backbone.words is not None
        self.text_plan = self.text_plan.to(example.targets.device)
        read = self.backbone.features(Tokens.of(example.values), example.cond, self.text_plan)
        return self.backbone.words.loss(read, example.targets, example.draws)


class BothObjective(GeneratorObjective):
    """Trains a generator that also describes pictures; arguments as for `GeneratorObjective`, conditions are captions.

    Raises:
        ArzooError: As `GeneratorObjective`, or pictures are not tokens on a grid.
    """

    def network(self) -> TokenLoss:
        """Build the module that is trained."""
        if not isinstance(self.plan.layout, Grid):
            raise ArzooError(
                f"generator.describe needs pictures of tokens on a grid, which a network reads row by row; those of "
                f"this tokenizer are {self.plan.layout}. Leave describe out"
            )
        self.describer = Describer(self.model.backbone)
        captions = self.conditions[0]
        assert isinstance(captions, Captions)
        share = self.settings.describe
        words = self._of_text(captions.cond(torch.arange(len(captions.captions)))).float().sum(1).mean()
        self.mean_tokens = (1 - share) * self.plan.layout.size, share * float(words)
        return BothLoss(self.model.backbone, self.model.heads, self.plan)

    def _of_text(self, cond: Cond) -> Tensor:
        """Return which ids (B, L) of the captions of a condition count: up to and with the end."""
        assert cond.text is not None
        assert cond.text_mask is not None
        return counted(self.describer.canvas(cond.text, cond.text_mask), self.describer.spec)

    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Return samples of both directions: every so many-th one, by its number alone, has its caption predicted."""
        example, share = super().batch(step, numbers), self.settings.describe
        described = torch.tensor([int((n + 1) * share) > int(n * share) for n in numbers])
        (drawn, drawn_count), (read, read_count) = _rows(~described), _rows(described)
        plain = replace(example, cond=self.conditions[0].cond(self.sampler.rows(numbers)))
        rows, counts = (drawn.tolist(), read.tolist()), (drawn_count, read_count)
        return Both(_selected(example, drawn), self._texts(_selected(plain, read)), rows, counts)

    def _texts(self, example: Example) -> Example:
        """Return the example that predicts the captions of one's conditions from its pictures."""
        text, mask, grid = example.cond.text, example.cond.text_mask, self.plan.layout
        assert text is not None
        assert mask is not None
        assert isinstance(grid, Grid)
        ids = self.describer.canvas(text, mask)
        return Example(ids, ids, Cond(len(ids), prefix=example.targets, grid=grid), example.draws)

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the weighted sum of both directions per predicted token; the mean loss of either is logged."""
        each, texts = parts[name](batch)
        drawn, described = batch.counts
        sums = (each * drawn[:, None]).sum(), self._summed(texts, batch.texts, described)
        # Divided by the means of the data, not of the micro-batch: every token weighs the same in any division.
        samples = drawn.sum() + described.sum()
        of_pictures, of_texts = (count * samples for count in self.mean_tokens)
        loss = (CODE_WEIGHT * sums[0] + sums[1]) / (of_pictures + of_texts)
        seen = drawn[:, None].expand(each.shape)
        return loss, {
            "picture_loss": sums[0] / of_pictures,
            "text_loss": sums[1] / of_texts,
            "loss_by_step": loss_by_step(each.detach(), batch.pictures.plan or self.plan, self.sourced, seen),
        }

    def _summed(self, each: Tensor, example: Example, counts: Tensor) -> Tensor:
        """Sum the losses (b, L) of the ids that count."""
        return (each * counted(example.targets, self.describer.spec) * counts[:, None]).sum()

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute the figures of any generator, and the loss per token of captions."""
        figures, device = super().validate(model), next(model.parameters()).device
        for name, codes, conditions in (
            ("validation", self.validation, self.conditions[1]),
            ("train", self.codes, self.conditions[0]),
        ):
            total, count = 0.0, 0
            for clean in self._clean(codes, conditions):
                example = self._texts(clean).to(device)
                kept = counted(example.targets, self.describer.spec)
                total, count = total + float(model(example)[kept].sum()), count + int(kept.sum())
            figures[f"{name}_text_loss"] = total / count
        return figures


def _rows(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (b,) that are chosen of (B,) bool, and 1 for each; or the first, and 0 for it."""
    rows = chosen.nonzero()[:, 0]
    return (rows, torch.ones(len(rows))) if len(rows) else (torch.zeros(1, dtype=torch.long), torch.zeros(1))


def _selected(example: Example, rows: Tensor) -> Example:
    """Return some samples of an example whose values are all visible."""
    return Example(
        example.values[rows],
        example.targets[rows],
        example.cond.select(rows),
        example.draws.select(rows.tolist()),
        plan=None if example.plan is None else example.plan.select(rows),
    )
