"""Pictures that a generator draws to be measured: the classes and seeds of the protocol."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from arzoo.errors import ArzooError
from arzoo.generator import Generator
from arzoo.metrics.pictures import Pictures
from arzoo.runtime import sample_seed

SEED = 0
"""Of the choice of reference pictures whose classes are drawn."""


class DrawnPictures(Pictures):
    """What a generator draws with the knobs of its checkpoint; picture i depends on its class and seed alone.

    Args:
        name: What to call it.
        model: The generator.
        labels: Class of every picture.
        chosen: How they were chosen, for the protocol.
        seed: Seed of the request.
    """

    def __init__(self, name: str, model: Generator, labels: Tensor, chosen: str, seed: int = 0) -> None:
        words = [model.classes[i] for i in labels.tolist()] if model.classes else None
        super().__init__(name=name, count=len(labels), size=model.tokenizer.image_size, labels=words)
        self.model, self.rows, self.seed = model, labels, seed
        self.chosen, self.seeds = chosen, f"sample_seed({seed}, i)"

    def read(self, rows: Sequence[int]) -> Tensor:
        """Pictures (B, H, W, 3) uint8."""
        seeds = [sample_seed(self.seed, row) for row in rows]
        return self.model.generate(self.rows[torch.as_tensor(rows)], seeds=seeds, batch=len(seeds))


def drawn_like(labels: Tensor, num: int) -> tuple[Tensor, str]:
    """Classes of `num` reference pictures, so that samples have the classes as often as the reference has.

    Args:
        labels: (m,) classes of the reference pictures.
        num: How many; beyond m every picture is taken again.

    Returns:
        (num,) classes, and the rule in words.
    """
    order = like_rows(len(labels), num)
    again = "" if num <= len(labels) else ", again when all were drawn"
    return labels[order], f"of reference pictures drawn without replacement, seed {SEED}{again}"


def like_rows(m: int, num: int) -> Tensor:
    """The reference pictures (num,) of m whose classes `drawn_like` takes."""
    if m < 1 or num < 1:
        raise ArzooError(f"{num} pictures like {m} cannot be drawn")
    random = torch.Generator().manual_seed(SEED)
    rounds = [torch.randperm(m, generator=random) for _ in range(-(-num // m))]
    return torch.cat([order[: num - i * m].sort().values for i, order in enumerate(rounds)])


def balanced(classes: int, num: int) -> tuple[Tensor, str]:
    """As many pictures of every class as possible, and the rule in words."""
    if not classes:
        return torch.full((num,), -1), "none"
    return torch.arange(num) * classes // num, f"{num} spread evenly over {classes}"
