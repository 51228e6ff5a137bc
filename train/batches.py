"""Data of the micro-batches, prepared in the training process or ahead of time by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from arzoo.train.objective import Objective
from arzoo.train.run.interrupt import SIGNALS

MicroBatch = tuple[int, Sequence[int]]
"""A step, and the running numbers of the samples of one of its micro-batches."""


class _MicroBatches(Dataset):
    """Micro-batches, indexed by step and samples."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __getitem__(self, which: MicroBatch) -> Any:
        return self.objective.batch(*which)


def micro_batches(objective: Objective, which: Iterable[MicroBatch], workers: int) -> Iterator[Any]:
    """Yield micro-batches in their order; they do not depend on the number of workers.

    Args:
        objective: The objective that prepares them.
        which: Steps and samples of the micro-batches.
        workers: Number of processes that prepare them ahead of time; 0 prepares them in this process.
    """
    data = _MicroBatches(objective)
    if not workers:
        return (data[samples] for samples in which)
    return iter(
        DataLoader(
            data,
            batch_size=None,
            sampler=which,
            num_workers=workers,
            collate_fn=_unchanged,
            worker_init_fn=_ignore_signals,
        )
    )


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal: the training still needs data to finish its step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
