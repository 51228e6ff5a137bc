"""Each contract is broken once, and its check must notice."""

import copy

import pytest
import torch
from contracts.cases import cases
from contracts.test_generation import (
    check_fork,
    check_given_tokens_stay,
    check_own_seed_only,
    check_stepped_equals_parallel,
    close,
)

from arzoo.models.base import State
from arzoo.tokens import Tokens


@pytest.fixture
def case():
    return copy.deepcopy(cases()["next-neighbor"])


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
