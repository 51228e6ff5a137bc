"""Micro-batches are read ahead by threads that change nothing and end with the training."""

import threading

import pytest
import torch
from toy import Toy

from arzoo.train.batches import AHEAD, micro_batches
from arzoo.train.objective import Sampler

WHICH = [(step, range(4 * step, 4 * step + 4)) for step in range(AHEAD + 4)]


class Watched(Toy):
    """The toy, which says which steps were read, and cannot read one of them."""

    def __init__(self, broken=None):
        super().__init__()
        self.read, self.broken = [threading.Event() for _ in WHICH], broken

    def batch(self, step, numbers):
        if step == self.broken:
            raise OSError("the disk is gone")
        self.read[step].set()
        return super().batch(step, numbers)


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_batches_are_read_while_the_training_has_the_one_before():
    objective, threads = Watched(), torch.get_num_threads()
    batches = micro_batches(objective, WHICH, 0)
    first = next(batches)
    assert objective.read[AHEAD].wait(60), "nobody has asked for it yet"
    assert readers()
    batches.close()
    assert not objective.read[AHEAD + 1].is_set()
    assert not readers()
    assert torch.get_num_threads() == threads
    assert torch.equal(first, Toy().batch(*WHICH[0]))
    for batch, which in zip(micro_batches(Toy(), WHICH, 0), WHICH, strict=True):
        assert torch.equal(batch, Toy().batch(*which))


def test_what_fails_in_a_reader_fails_in_the_training_at_that_step():
    batches = micro_batches(Watched(broken=2), WHICH, 0)
    assert [len(next(batches)) for _ in range(2)] == [4, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert not readers()


def test_threads_that_ask_for_several_epochs_get_each_of_them():
    sampler, alone = Sampler(6, seed=3), Sampler(6, seed=3)
    expected = [alone.rows(range(6 * epoch, 6 * epoch + 6)).tolist() for epoch in range(2)]
    wrong = []

    def ask(epoch):
        for _ in range(200):
            if sampler.rows(range(6 * epoch, 6 * epoch + 6)).tolist() != expected[epoch]:
                wrong.append(epoch)

    threads = [threading.Thread(target=ask, args=(epoch,)) for epoch in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
