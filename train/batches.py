"""Training data of the coming micro-batches, prepared in between or by processes beside the training."""

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
    """Micro-batches by step and samples."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __getitem__(self, which: MicroBatch) -> Any:
        return self.objective.batch(*which)


def micro_batches(objective: Objective, which: Iterable[MicroBatch], workers: int) -> Iterator[Any]:
    """Micro-batches in their order, the same whatever the number of workers.

    Args:
        objective: Makes them.
        which: Which ones.
        workers: Processes that prepare them ahead of time, 0 for none.
    """
    data = _MicroBatches(objective)
    if not workers:
        return (data[one] for one in which)
    return iter(
        DataLoader(
            data,
            batch_size=None,
            sampler=which,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_deaf,
        )
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _deaf(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the training finishes its step and still needs its data."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
