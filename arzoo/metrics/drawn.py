"""Pictures that a generator draws to be measured: the classes or prompts, and the seeds, of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.finite import refuse_unscorable
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.data.pictures import Pictures
from arzoo.generation.generator import Generator
from arzoo.samplers.schedules import control_to_data

SEED = 0
"""Of the choice of reference pictures whose classes are drawn."""
_GROUP_CPU, _GROUP = 8, 64
"""Pictures of vectors that are drawn together whatever the batch: kernels round otherwise for other shapes, and a grey
level more or less moves a score."""


class DrawnPictures(Pictures):
    """What a generator draws with the knobs of its checkpoint; picture i depends on its class or prompt and seed alone.

    Args:
        name: What to call it.
        model: The generator.
        asked: Class of every picture, (n,) int64, or its prompt.
        chosen: How they were chosen, for the protocol.
        seed: Seed of the request.
        notes: What a reader of the scores should know.
    """

    def __init__(
        self,
        name: str,
        model: Generator,
        asked: Tensor | Sequence[str],
        chosen: str,
        seed: int = 0,
        notes: Sequence[str] = (),
    ) -> None:
        of_classes = isinstance(asked, Tensor) and model.classes
        words = [model.classes[i] for i in asked.tolist()] if of_classes else None  # type: ignore[union-attr]
        super().__init__(name=name, count=len(asked), size=model.tokenizer.image_size, labels=words)
        self.model, self.asked, self.seed = model, asked, seed
        self.chosen, self.seeds = chosen, f"sample_seed({seed}, i)"
        self.notes = list(notes)

    @property
    def sampling(self) -> dict[str, Any]:
        """Order, knobs, seed and number of the pictures."""
        plan = {"name": self.model.plan_name, "options": self.model.plan_options}
        return {
            **super().sampling,
            "plan": plan,
            "control": control_to_data(self.model.control),
            "seed": self.seed,
        }

    def read(self, rows: Sequence[int]) -> Tensor:
        """Pictures (B, H, W, 3) uint8; on one device the same in any batch."""
        if self.model.tokenizer.spec.discrete:
            return self._draw(rows)
        size = _GROUP_CPU if self.model.device.type == "cpu" else _GROUP
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        # The last picture is repeated to fill a group.
        padded = [[*some, *[some[-1]] * (size - len(some))] for some in groups]
        return torch.cat([self._draw(full)[: len(some)] for full, some in zip(padded, groups, strict=True)])

    def _draw(self, rows: Sequence[int]) -> Tensor:
        seeds = [sample_seed(self.seed, row) for row in rows]
        if isinstance(self.asked, Tensor):
            asked: dict[str, Any] = {"cond": Cond(len(rows), label=self.asked[torch.as_tensor(rows)])}
        else:
            asked = {"prompts": [self.asked[row] for row in rows]}
        with refuse_unscorable():
            return self.model.generate(**asked, seeds=seeds, batch=len(seeds)).images


A = TypeVar("A", Tensor, Sequence[str])


def drawn_like(asked: A, num: int) -> tuple[A, str]:
    """Classes or captions of `num` reference pictures, as frequent in the samples as in the reference.

    Args:
        asked: (m,) classes of the reference pictures, or their captions.
        num: How many; beyond m every picture is taken again.

    Returns:
        (num,) of them, and the rule in words.
    """
    order = like_rows(len(asked), num)
    again = "" if num <= len(asked) else ", again when all were drawn"
    rule = f"of reference pictures drawn without replacement, seed {SEED}{again}"
    if isinstance(asked, Tensor):
        return asked[order], rule
    return [asked[row] for row in order.tolist()], f"captions {rule}"


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
