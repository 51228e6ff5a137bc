"""Samples of a generator for a measurement, with the classes or prompts and the seeds of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.finite import refuse_unscorable
from arzoo.base.runtime import sample_seed
from arzoo.core.tokens import Tokens
from arzoo.data.base import spread
from arzoo.data.pictures import Pictures
from arzoo.generation.generator import Generator
from arzoo.generation.request import of_labels
from arzoo.samplers.schedules import control_to_data

SEED = 0
"""Seed of the choice of reference pictures whose classes or captions are drawn."""
_GROUP_CPU, _GROUP = 8, 64
"""Pictures drawn together by models of vectors, whatever the batch: rounding depends on the shape, and one grey level
moves a score."""


class DrawnPictures(Pictures):
    """Pictures or clips by a generator with the knobs of its checkpoint; each depends on its request and seed alone.

    Args:
        name: What to call it.
        model: The generator.
        requests: Class of each picture, (n,) int64, or its prompt.
        chosen: The rule by which they were chosen, for the protocol.
        seed: Seed of the request.
        notes: Remarks for readers of the scores.
        tokens: Stop after so many tokens, see `Generator.generate`.
    """

    def __init__(
        self,
        name: str,
        model: Generator,
        requests: Tensor | Sequence[str],
        chosen: str,
        seed: int = 0,
        notes: Sequence[str] = (),
        tokens: int | None = None,
    ) -> None:
        of_classes = isinstance(requests, Tensor) and model.classes
        words = [model.classes[i] for i in requests.tolist()] if of_classes else None  # type: ignore[union-attr]
        super().__init__(name=name, count=len(requests), size=model.tokenizer.image_size, labels=words)
        self.frames = model.tokenizer.frames
        self.model, self.requests, self.seed, self.tokens = model, requests, seed, tokens
        self.chosen, self.seeds = chosen, f"sample_seed({seed}, i)"
        self.notes = list(notes)

    @property
    def sampling(self) -> dict[str, Any]:
        """Plan, knobs, seed and number of the pictures."""
        plan = {"name": self.model.plan_name, "options": self.model.plan_options}
        return {
            **super().sampling,
            "plan": plan,
            "control": control_to_data(self.model.control),
            "seed": self.seed,
            **({} if self.tokens is None else {"tokens": self.tokens}),
        }

    def read(self, rows: Sequence[int]) -> Tensor:
        """Draw pictures (B, H, W, 3) or clips (B, T, H, W, 3) uint8; on one device they are the same in any batch."""
        if self.model.tokenizer.spec.discrete:
            return self._draw(rows)
        size = _GROUP_CPU if self.model.device.type == "cpu" else _GROUP
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        # The last picture is repeated to fill a group.
        padded = [[*group, *[group[-1]] * (size - len(group))] for group in groups]
        return torch.cat([self._draw(full)[: len(group)] for full, group in zip(padded, groups, strict=True)])

    def given(self, rows: Sequence[int]) -> Tokens | None:
        """Return the tokens that are given to some pictures, None for none."""
        return None

    def _draw(self, rows: Sequence[int]) -> Tensor:
        seeds = [sample_seed(self.seed, row) for row in rows]
        if isinstance(self.requests, Tensor):
            labels = self.requests[torch.as_tensor(rows)]
            request: dict[str, Any] = {"cond": of_labels(self.model, labels)}
        else:
            request = {"prompts": [self.requests[row] for row in rows]}
        with refuse_unscorable():
            drawn = self.model.generate(
                **request, seeds=seeds, batch=len(seeds), given=self.given(rows), tokens=self.tokens
            )
        return drawn.stills if self.frames == 1 else drawn.tensor


A = TypeVar("A", Tensor, Sequence[str])


def drawn_like(labels: A, num: int) -> tuple[A, str]:
    """Choose classes or captions of `num` reference pictures, as frequent as in the reference.

    Args:
        labels: (m,) classes of the reference pictures, or their captions.
        num: Number of pictures; beyond m each reference picture is taken again.

    Returns:
        (num,) classes or captions, and the rule in words.
    """
    order = like_rows(len(labels), num)
    again = "" if num <= len(labels) else ", again when all were drawn"
    rule = f"of reference pictures drawn without replacement, seed {SEED}{again}"
    if isinstance(labels, Tensor):
        return labels[order], rule
    return [labels[row] for row in order.tolist()], f"captions {rule}"


def like_rows(m: int, num: int) -> Tensor:
    """Return the rows (num,) of the m reference pictures whose classes `drawn_like` takes."""
    if m < 1 or num < 1:
        raise ArzooError(f"{num} pictures like {m} cannot be drawn")
    rng = torch.Generator().manual_seed(SEED)
    rounds = [torch.randperm(m, generator=rng) for _ in range(-(-num // m))]
    return torch.cat([order[: num - i * m].sort().values for i, order in enumerate(rounds)])


def balanced(classes: int, num: int) -> tuple[Tensor, str]:
    """Choose equally many pictures of each class, as far as possible; return the classes and the rule in words."""
    if not classes:
        return torch.full((num,), -1), "none"
    return torch.tensor(spread(classes, num), dtype=torch.long), f"{num} spread evenly over {classes}"
