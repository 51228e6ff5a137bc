"""Data of the micro-batches, read ahead of the training by threads or by worker processes.

A micro-batch follows from its samples alone, so neither changes it.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from arzoo.train.objective import Objective
from arzoo.train.run.interrupt import SIGNALS

MicroBatch = tuple[int, Sequence[int]]
"""A step, and the running numbers of the samples of one of its micro-batches."""
THREADS = 2
"""Threads that read, so that a micro-batch may take longer than a step."""
AHEAD = 4
"""Micro-batches that are read before the training asks for them."""


class _MicroBatches(Dataset):
    """Micro-batches, indexed by step and samples."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __getitem__(self, which: MicroBatch) -> Any:
        return self.objective.batch(*which)


def micro_batches(objective: Objective, which: Iterable[MicroBatch], workers: int) -> Generator[Any]:
    """Yield micro-batches in their order; close the iterator to end the threads before the last one.

    Args:
        objective: The objective that prepares them.
        which: Steps and samples of the micro-batches.
        workers: Number of processes that prepare them; 0 prepares them in threads of this process.
    """
    data = _MicroBatches(objective)
    if not workers:
        yield from _read_ahead(data, which)
        return
    yield from DataLoader(
        data,
        batch_size=None,
        sampler=which,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_signals,
    )


def _read_ahead(data: _MicroBatches, which: Iterable[MicroBatch]) -> Generator[Any]:
    """Yield micro-batches while threads prepare the next ones."""
    waiting: deque[Future[Any]] = deque()
    # One core a thread: torch's own threads beside those of the training would keep each other waiting.
    pool = ThreadPoolExecutor(THREADS, "reader", torch.set_num_threads, (1,))
    try:
        for samples in which:
            waiting.append(pool.submit(data.__getitem__, samples))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(torch.get_num_threads())  # else threads that start later have one core, too


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal: the training still needs data to finish its step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
