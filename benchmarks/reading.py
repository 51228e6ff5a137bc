"""Seconds of a training step while reading its pictures takes as long as the step itself, read ahead and not.

A VQ tokenizer on random pictures, whose data set waits before it gives them, as a disk or a network does.

    python benchmarks/reading.py --threads 1
    python benchmarks/reading.py --threads 1 --times 1.5  # reading takes one and a half steps
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import table
from rich.console import Console
from torch import Tensor

from arzoo.base import registry
from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.train.engine import Engine
from arzoo.train.settings import CodebookCare, OptimConfig, RunConfig
from arzoo.train.tokenizer import TokenizerObjective

TOKENIZER, BATCH = "vq_8_small", 16


@dataclass(frozen=True)
class Slow(ImageSet):
    """Pictures that take a while to read."""

    seconds: float = 0.0

    def pixels(self, rows: slice | Tensor) -> Tensor:
        """Wait, then return some pictures."""
        time.sleep(self.seconds)
        return super().pixels(rows)


def measure(read: str, arguments: Namespace) -> dict[str, Any]:
    """Seconds of a step whose pictures are there, and of one whose pictures take so many steps to read."""
    alone = step_seconds("ahead", 0.0, arguments.steps)
    seconds = step_seconds(read, arguments.times * alone, arguments.steps)
    return {
        "alone_seconds": round(alone, 4),
        "seconds": round(seconds, 4),
        "ratio": round(seconds / alone, 3),
    }


def step_seconds(read: str, read_seconds: float, steps: int) -> float:
    """Return the mean seconds of a step after the first one, including the wait for its pictures."""
    torch.manual_seed(0)
    tokenizer = registry.lookup("tokenizer", TOKENIZER)().build()
    height, width = tokenizer.image_size
    images = torch.randint(256, (64, height, width, 3), dtype=torch.uint8)
    labels, held_out = torch.zeros(64, dtype=torch.long), torch.arange(64) >= 60
    data = Slow("noise", images, labels, ("any",), held_out, seconds=read_seconds)
    loss = TokenizerLossConfig(perceptual=0.0, adversarial=0.0)
    objective = TokenizerObjective(tokenizer, data, loss, Augment(), CodebookCare(restart_until=0), 0.0, 0)
    with TemporaryDirectory() as folder:
        run = RunConfig(steps=steps + 1, batch=BATCH, threads=torch.get_num_threads())
        engine = Engine(objective, run, OptimConfig(), Path(folder), {}, Console(quiet=True))
        batches = engine.batches(range(steps + 1)) if read == "ahead" else in_turn(engine, steps + 1)
        engine.train_step(batches, engine.wrapped)
        start = time.perf_counter()
        for engine.step in range(1, steps + 1):
            engine.train_step(batches, engine.wrapped)
        return (time.perf_counter() - start) / steps


def in_turn(engine: Engine, steps: int) -> Iterator[Any]:
    """Yield batches that are read when the training asks for them."""
    return (engine.objective.batch(step, range(step * BATCH, (step + 1) * BATCH)) for step in range(steps))


def options(parser: ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--steps", type=int, default=30, help="steps that are timed")
    parser.add_argument("--times", type=float, default=1.0, help="seconds of reading, in steps")


if __name__ == "__main__":
    table(__doc__, {"read": ["ahead", "in_turn"]}, measure, options)
