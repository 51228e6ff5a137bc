"""Settings of the training of networks of volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.core.volumes import Size
from arzoo.train.curriculum import TERMS, curriculum

PRETRAINING = (*TERMS, "masked")
"""Tasks that need no labels."""
TASKS = ("affinities", *PRETRAINING)


@dataclass(frozen=True, kw_only=True)
class SegmenterTraining(Config):
    """What a network of volumes learns: affinities of labeled cells, or what was hidden from it (TokenUnify, 2025).

    Attributes:
        volumes: Number of synthetic volumes; of files, all are used.
        window: Sides of the windows along z, y and x, in which trained networks read volumes, too.
        patch: Sides of a token, for tasks that hide tokens.
        affinities: Weight of the loss of affinities ("fine-tuning").
        random: Weight of the reconstruction of a window of which random tokens are hidden.
        next: Weight of the prediction of the first of all later tokens, which are hidden; needs `model.resampler`.
        next_all: Weight of the reconstruction of the window from the tokens before them.
        masked: Weight of the reconstruction of random hidden tokens alone, as masked autoencoders have it.
        curriculum: The weights of `random`, `next` and `next_all` follow the course of the training, see
            `arzoo.train.curriculum`, in place of the ones above.
        fill: What stands in hidden voxels: standard normal noise, or zeros.
        share: Share of tokens that `random` and `masked` hide; 0 draws it for each window, from 0.2 to 0.8 as
            published.
    """

    volumes: int = 4
    window: Size = (16, 160, 160)
    patch: Size = (4, 16, 16)
    affinities: float = 1.0
    random: float = 0.0
    next: float = 0.0
    next_all: float = 0.0
    masked: float = 0.0
    curriculum: bool = False
    fill: Literal["noise", "zeros"] = "noise"
    share: float = 0.0

    def __post_init__(self) -> None:
        refuse_outside(self, "segmenter.", dict.fromkeys(("volumes", "window", "patch"), (1, math.inf)))
        refuse_outside(self, "segmenter.", dict.fromkeys(TASKS, (0, math.inf)))
        refuse_outside(self, "segmenter.", {"share": (0, 1)})
        given = [task for task in TERMS if getattr(self, task)]
        if self.curriculum and given:
            raise ArzooError(
                f"segmenter.curriculum sets the weights of {', '.join(TERMS)} itself, and the recipe has "
                f"{', '.join(given)}: leave these out, or set curriculum to false"
            )
        if not self.tasks:
            raise ArzooError(
                f"nothing is to be learned: give one of these a weight in segmenter: {', '.join(TASKS)}"
            )
        if self.affinities and len(self.tasks) > 1:
            raise ArzooError(
                f"a network makes affinities or voxels, and the recipe has {', '.join(self.tasks)}: set "
                "segmenter.affinities=0, or leave the others out"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that have a weight, at least for a part of the training."""
        return tuple(task for task in TASKS if getattr(self, task) or (self.curriculum and task in TERMS))

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weights of the tasks when a share of the steps, in [0, 1], is done."""
        values = {task: float(getattr(self, task)) for task in TASKS}
        if self.curriculum:
            values |= zip(TERMS, curriculum(progress), strict=True)
        return {task: values[task] for task in self.tasks}

    def build(self) -> SegmenterTraining:
        """Return the settings themselves."""
        return self
