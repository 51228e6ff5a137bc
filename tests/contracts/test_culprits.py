"""Each contract is broken once, and its check must notice."""

import pytest
import torch
from contracts.cases import cases
from contracts.test_generation import (
    check_early_stop_cuts_samples,
    check_fork,
    check_given_prefix_is_skipped,
    check_given_tokens_stay,
    check_guidance_of_one,
    check_learning,
    check_own_seed_only,
    check_saving,
    check_seeds_decide,
    check_stepped_equals_parallel,
    close,
)

from arzoo.core.contracts import Read
from arzoo.core.draws import Draws
from arzoo.core.state import State
from arzoo.core.tokens import Tokens


@pytest.fixture
def case():
    return cases()["next-neighbor"]


def test_nan_is_never_close():
    assert not close(torch.tensor([float("nan")]), torch.tensor([1.0]))
    assert not close(torch.tensor([1.0]), torch.tensor([float("nan")]))


def test_wrong_positions_in_the_cache_are_noticed(case, monkeypatch):
    backbone = case.model.backbone
    right = backbone.positions
    monkeypatch.setattr(backbone, "positions", lambda s: right((s + 1) % 16 if s.shape[1] < 5 else s))
    with pytest.raises(AssertionError, match="step"):
        check_stepped_equals_parallel(case)


def test_a_mask_that_shows_the_future_is_noticed(case, monkeypatch):
    backbone = case.model.backbone
    right = backbone.full_mask
    monkeypatch.setattr(backbone, "full_mask", lambda *a: torch.ones_like(right(*a)))
    with pytest.raises(AssertionError, match="step"):
        check_stepped_equals_parallel(case)


def test_feeding_twice_is_noticed(case, monkeypatch):
    def forgetful(self, step):
        return self.repeat(self.plan.fed(max(step - 2, -1), step)), 1

    monkeypatch.setattr(State, "pending", forgetful)
    with pytest.raises((AssertionError, RuntimeError)):
        check_stepped_equals_parallel(case)


def test_randomness_of_the_batch_is_noticed(case, monkeypatch):
    head = case.model.heads[0]
    monkeypatch.setattr(head, "sample", lambda predict, read, at, draws: torch.multinomial(
        predict().softmax(-1).flatten(0, 1), 1).view(draws.batch, -1))  # fmt: skip
    with pytest.raises(AssertionError):
        check_own_seed_only(case)


def test_a_fork_that_shares_memory_is_noticed(case, monkeypatch):
    right = State.select

    def sharing(self, index):
        new = right(self, index)
        new.kv = self.kv
        return new

    monkeypatch.setattr(State, "select", sharing)
    with pytest.raises(AssertionError):
        check_fork(case)


def test_overwriting_given_tokens_is_noticed(case, monkeypatch):
    right = Tokens.commit

    def careless(self, group, values, positions):
        self.given = torch.zeros_like(self.given)
        right(self, group, values, positions)

    monkeypatch.setattr(Tokens, "commit", careless)
    with pytest.raises(AssertionError):
        check_given_tokens_stay(case)


def test_reading_twice_is_noticed(case, monkeypatch):
    right = State.pending

    def again(self, step):
        slots, ranks = right(self, step)
        return (slots, ranks) if slots.shape[1] else (self.repeat(self.plan.fed(step - 1, step)), 1)

    monkeypatch.setattr(State, "pending", again)
    with pytest.raises(AssertionError, match="read twice"):
        check_stepped_equals_parallel(case)


def test_a_given_prefix_that_is_not_fed_is_noticed(case, monkeypatch):
    monkeypatch.setattr(State, "pending", lambda self, k: (self.repeat(self.plan.fed(k - 1, k)), int(k > 0)))
    with pytest.raises(AssertionError):
        check_given_prefix_is_skipped(case)


def test_drawing_what_is_given_is_noticed(case):
    start = case.begin

    def forgetful(tokens=None, **options):
        run = start(tokens, **options)
        run.todo = (True,) * len(run.plan)
        return run

    case.begin = forgetful
    with pytest.raises(AssertionError):
        check_given_prefix_is_skipped(case)


@pytest.mark.parametrize("cut", ["all samples", "the last one late", "never"])
def test_a_wrong_early_stop_is_noticed(case, monkeypatch, cut):
    right = Tokens.finish

    def wrong(self, done, at):
        if cut == "never":
            return False
        return right(self, torch.ones_like(done) if cut == "all samples" else done, at + 1)

    monkeypatch.setattr(Tokens, "finish", wrong)
    with pytest.raises(AssertionError):
        check_early_stop_cuts_samples(case)


def test_what_is_not_saved_is_noticed(case):
    right = case.model.backbone.trunk
    case.model.backbone.trunk = lambda *a: right(*a) * torch.linspace(-2, 2, 16)
    with pytest.raises(AssertionError):
        check_saving(case, cases(seed=1)["next-neighbor"])


def test_a_parameter_without_gradient_is_noticed(case):
    case.model.backbone.blocks[2].norm1.weight.requires_grad_(False)
    with pytest.raises(AssertionError, match=r"blocks\.2\.norm1\.weight has no gradient"):
        check_learning(case)


@pytest.mark.parametrize(("factor", "words"), [(0.0, "vanishes"), (float("nan"), "not finite")])
def test_a_gradient_of_nothing_is_noticed(case, factor, words):
    case.model.heads[0].output.weight.register_hook(lambda g: g * factor)
    with pytest.raises(AssertionError, match=words):
        check_learning(case)


@pytest.mark.parametrize(("numbers", "words"), [(torch.rand, "same seeds"), (torch.ones, "other seeds")])
def test_seeds_that_do_not_decide_are_noticed(case, monkeypatch, numbers, words):
    monkeypatch.setattr(
        Draws, "uniform", lambda self, shape, dtype=torch.float64: numbers(shape, dtype=dtype) / 2
    )
    with pytest.raises(AssertionError, match=words):
        check_seeds_decide(case)


def test_guidance_that_reads_the_wrong_branch_is_noticed(case, monkeypatch):
    def null(self, batch):
        return Read(self.positions, self.features[-batch:], self.available)

    monkeypatch.setattr(Read, "conditional", null)
    with pytest.raises(AssertionError):
        check_guidance_of_one(case)
