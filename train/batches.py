"""Training data of the coming micro-batches, prepared in between or by processes beside the training."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from arzoo.train.objective import Objective
from arzoo.train.run.interrupt import SIGNALS


class _MicroBatches(Dataset):
    """Micro-batches by running number."""

    def __init__(self, objective: Objective, size: int) -> None:
        self.objective, self.size = objective, size

    def __getitem__(self, number: int) -> Any:
        return self.objective.batch(number, self.size)


def micro_batches(objective: Objective, numbers: Iterable[int], size: int, workers: int) -> Iterator[Any]:
    """Micro-batches in the order of their numbers, the same whatever the number of workers.

    Args:
        objective: Makes them; a micro-batch is a function of its number alone.
        numbers: Which ones.
        size: Samples of each.
        workers: Processes that prepare them ahead of time, 0 for none.
    """
    data = _MicroBatches(objective, size)
    if not workers:
        return (data[number] for number in numbers)
    return iter(
        DataLoader(
            data,
            batch_size=None,
            sampler=numbers,
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
