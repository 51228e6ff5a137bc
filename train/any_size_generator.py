"""Objective of generators of pictures on unlike grids: the examples of a micro-batch, one for each grid.

Samples are drawn as always, and those of a grid are computed together, so that no token is padding. Every token has the
same weight in the loss, as in "LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026, however samples are
divided into micro-batches.

Shapes: B samples, G grids, N positions of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.data.codes import Codes
from arzoo.generation.generator import Generator
from arzoo.train.conditions import Captions, Labels
from arzoo.train.example import Example, TokenLoss
from arzoo.train.generator import GeneratorObjective
from arzoo.train.noise import of_rows
from arzoo.train.objective import Metrics
from arzoo.train.settings import GeneratorLoss


@dataclass(frozen=True)
class Examples:
    """A micro-batch of samples on unlike grids.

    Attributes:
        places: Per grid, the places (b,) of its samples in the micro-batch.
        examples: Per grid, their example, with the order on that grid.
    """

    places: tuple[tuple[int, ...], ...]
    examples: tuple[Example, ...]

    def to(self, device: torch.device | str) -> Examples:
        """Return the examples on another device."""
        return replace(self, examples=tuple(example.to(device) for example in self.examples))


class LossOfGrids(TokenLoss):
    """The loss of samples on unlike grids, in one forward pass of the module."""

    def forward(self, example: Any) -> Tensor:
        """Compute the loss of every token, (all tokens,) of several grids or (B, N) of an example of one."""
        if isinstance(example, Example):
            return super().forward(example)
        losses, state = [], torch.get_rng_state()
        for places, of_grid in zip(example.places, example.examples, strict=True):
            # What a layer drops follows from the sample and from the calls before: the same ones for every grid.
            torch.set_rng_state(state)
            with of_rows(places):
                losses.append(super().forward(of_grid).flatten())
        return torch.cat(losses)


class AnySizeGeneratorObjective(GeneratorObjective):
    """Trains a generator on codes of unlike grids.

    Arguments as of `GeneratorObjective`.

    Raises:
        ArzooError: The order hides tokens or has stages, or orders are random; or the network, its heads or its plan do
            not fit a grid.
    """

    def __init__(
        self, model: Generator, train: Codes, validation: Codes, settings: GeneratorLoss, *more: Any
    ) -> None:
        assert train.grids is not None
        assert validation.grids is not None
        super().__init__(model, train, validation, settings, *more)
        if self.context != "true" or self.sourced is not None or settings.random_orders:
            raise ArzooError(
                "pictures of unlike sizes are drawn one token after another from those before it, and plan "
                f"{self.plan} or generator.random_orders={settings.random_orders} does otherwise. Take plan "
                "newlines or raster, or codes of one size (sizes=square)"
            )
        grids = torch.cat([train.grids, validation.grids]).unique(dim=0).tolist()
        self.plans = {(h, w): self._model_of(h, w).plan() for h, w in grids}
        self.mean_count = float(train.token_counts().double().mean())

    def _model_of(self, rows: int, columns: int) -> Generator:
        """Return the generator for pictures of so many rows and columns of tokens."""
        _, height, width = self.model.tokenizer.spec.clip_of(Grid(1, rows, columns))
        return self.model.with_size(height, width)

    def network(self) -> TokenLoss:
        """Build the module that is trained."""
        return LossOfGrids(self.model.backbone, self.model.heads, self.plan)

    def _plan_of(self, codes: Codes, rows: Tensor) -> Plan:
        """The order on the grid of some pictures."""
        grid = codes.layout_of(rows)
        assert isinstance(grid, Grid)
        return self.plans[grid.h, grid.w]

    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Return the examples of some samples, one for each grid."""
        rows = self.sampler.rows(numbers)
        places, examples = [], []
        for some in self.codes.by_grid(rows):
            example = super().batch(step, [numbers[place] for place in some.tolist()])
            examples.append(replace(example, plan=self._plan_of(self.codes, rows[some])))
            places.append(tuple(some.tolist()))
        return Examples(tuple(places), tuple(examples))

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the loss per token, divided by the mean number of tokens of the data and not of the micro-batch."""
        return parts[name](batch).sum() / (sum(map(len, batch.places)) * self.mean_count), {}

    @property
    def _has_entropy(self) -> bool:
        return False  # a figure by steps of the plan, of which grids have unlike numbers

    def _clean(self, codes: Codes, conditions: Labels | Captions) -> Iterator[Example]:
        """Examples of clean pictures spread over a split, each of one grid."""
        count = len(codes.labels)
        pick = torch.linspace(0, count - 1, min(count, len(self.validation.labels))).long()
        for some in (rows[places] for rows in pick.split(128) for places in codes.by_grid(rows)):
            plan = self._plan_of(codes, some)
            for example in self._clean_examples(codes, conditions, some):
                yield replace(example, plan=plan)

    @property
    def _shown(self) -> Generator:
        """The generator for pictures of the most frequent size."""
        assert self.codes.grids is not None
        grids, counts = self.codes.grids.unique(dim=0, return_counts=True)
        return self._model_of(*grids[counts.argmax()].tolist())

    def _length_in_words(self) -> str:
        assert self.codes.grids is not None
        count = self.codes.token_counts()
        return (
            f"{int(count.min())} to {int(count.max())} on {len(self.codes.grids.unique(dim=0))} grids, "
            f"{float(count.float().mean()):.1f} on average"
        )

    def _baselines(self) -> dict[str, Any]:
        return {}
