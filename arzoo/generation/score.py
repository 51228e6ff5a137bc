"""Likelihood of pictures: the probability with which a generator draws their codes.

Shapes: n pictures, B of a batch, N positions, m positions of a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.ends import counted
from arzoo.core.tokens import Tokens, gather_positions
from arzoo.generation.inputs import Pictures, pictures_of
from arzoo.generation.request import Classes, seeds_of
from arzoo.generation.runs import begin
from arzoo.generation.subjects import Subjects, requested
from arzoo.samplers.loop import commit, propose

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


@dataclass(frozen=True)
class Score:
    """Likelihood of pictures, of each by its codes; that of the pixels is not known.

    Numbers of models with the same tokenizer can be compared, others cannot: a tokenizer of fewer codes leaves more
    out.

    Attributes:
        nats: (n,) natural logarithm of the probability, at most 0.
        dimensions: (n,) number of codes that it is the probability of.
    """

    nats: Tensor
    dimensions: Tensor

    @property
    def bits_per_dimension(self) -> Tensor:
        """(n,) bits per code that a coder with this model would need; log2 of the number of codes is a blind guess."""
        return -self.nats / self.dimensions / math.log(2)


@torch.no_grad()
def score(
    model: Generator,
    images: Pictures,
    subjects: Subjects | Cond | None = None,
    *,
    classes: Classes | None = None,
    prompts: Sequence[str] | None = None,
    cond: Cond | None = None,
    seed: int = 0,
    batch: int = 16,
) -> Score:
    """Return the likelihood of pictures: of each code, given the class or prompt and what was drawn before it.

    It is the law of the network itself, without guidance, temperature and filters. Codes that a plan draws in one step
    are independent of each other. Under a plan of random orders it is that of one order, which follows the seed.

    Example:
        >>> model.score(photo, "cat-face/openmoji").bits_per_dimension  # doctest: +SKIP

    Args:
        model: The generator.
        images: PIL images, files, arrays or tensors, see `Generator.encode`.
        subjects: Class or prompt, one for all or one for each picture, as in `Generator.generate`.
        classes: As there.
        prompts: As there.
        cond: As there.
        seed: As there, for random orders.
        batch: Pictures per batch, at least 1.

    Raises:
        UnknownName: The model does not know a class.
        ArzooError: The model draws vectors, or in an order that it finds while drawing; batch is less than 1; or as
            `scored_tokens`, `Generator.encode` and `Generator.generate`.
    """
    _require_likelihood(model)
    batch = whole_number(batch, "batch", least=1)
    pictures = pictures_of(images, model.image_size, model.tokenizer.frames)
    cond, _ = requested(model, subjects, classes=classes, prompts=prompts, cond=cond, exact=True)
    if cond.batch not in (1, len(pictures)):
        raise ArzooError(
            f"{len(pictures)} pictures and {cond.batch} classes or prompts: give one for all, or one for each"
        )
    cond = cond.select(torch.arange(len(pictures)) % cond.batch)
    seeds, parts = seeds_of(cond, seed, None), list[Score]()
    for rows in torch.arange(len(pictures)).split(batch):
        canvas = model.encode(pictures[rows])
        parts.append(scored_tokens(model, canvas, cond.select(rows), [seeds[i] for i in rows.tolist()]))
    return Score(torch.cat([part.nats for part in parts]), torch.cat([part.dimensions for part in parts]))


def _require_likelihood(model: Generator) -> None:
    """Refuse a model whose likelihood is not known."""
    if not model.spec.discrete:
        raise ArzooError(
            "the likelihood of pictures is known for models of codes only: this one draws vectors, by removing noise "
            "from them step by step, which gives samples but no probability of one. `arzoo evaluate` measures how "
            "far its pictures are from real ones."
        )
    if model.plan().confident:
        raise ArzooError(
            f"plan {model.plan_name!r} decides the order of the codes by what it draws, so the probability of a "
            "picture is a sum over all orders, which is not known. A given order has one: "
            "model.with_plan('masked').score(...)"
        )


def scored_tokens(model: Generator, canvas: Tokens, cond: Cond, seeds: Sequence[int]) -> Score:
    """Return the likelihood of canvases, by drawing them again with their own codes.

    Args:
        model: A generator of codes.
        canvas: What `Generator.encode` returns, B rows.
        cond: Condition, B rows.
        seeds: One per row, for random orders.

    Raises:
        ArzooError: A picture has fewer tokens than the model draws.
    """
    canvas = canvas.copy(model.device)
    if not bool((present := canvas.present).all()):
        row = int((~present).any(1).nonzero()[0])
        raise ArzooError(
            f"picture {row} has {int(present[row].sum())} of {present.shape[1]} tokens, and this model always draws "
            "all of them, so it knows no probability of fewer: score it with a model that draws where a picture ends "
            "(Generator.create(..., ends=True))"
        )
    parts, run = begin(model, cond, seeds, Control())
    open_ = counted(canvas.values, model.spec) if model.spec.ends else torch.ones_like(canvas.known)
    nats = torch.zeros(len(canvas.values), dtype=torch.float64, device=canvas.values.device)
    while run.k < len(run.plan):
        proposal = propose(parts, run)
        codes = canvas.at(proposal.read.positions)
        losses = torch.zeros(canvas.values.shape[:2], dtype=torch.float64, device=nats.device)
        index = proposal.read.positions.expand(len(codes), -1)
        losses.scatter_(1, index, proposal.head.loss(proposal.read, codes).double())
        group = proposal.group
        nats -= (gather_positions(losses, group) * gather_positions(open_, group)).sum(1)
        commit(run, group, proposal, codes)
    return Score(nats.cpu(), open_.sum(1).cpu() * canvas.values[0, 0].numel())
