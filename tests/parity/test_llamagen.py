"""LlamaGen's transformer, class- and text-conditional, against recordings of the published code."""

from __future__ import annotations

import pytest
import torch
from parity import family
from parity.golden import Golden, assert_close, load, variant

from arzoo.samplers.schedules import until_step

KEYS = [
    r"(c2i|t2i)\.(sd|gen|grad)\..+",
    r"(c2i|t2i)\.(cond|idx|emb|emb_mask|train_logits|train_loss|train_loss_valid_[01]+)",
    r"(vq|disc|loss)\b.*",  # the tokenizer's, compared in test_vq.py
]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("llamagen")


@pytest.fixture(params=["c2i", "t2i"])
def replay(golden: Golden, request: pytest.FixtureRequest) -> family.Replay:
    name = variant(golden, request.param)
    return family.Replay.of(golden.sub(f"{name}."), golden.info[f"{name}_config"], "llamagen")


def training_cond(replay: family.Replay):
    cond = replay.cond()
    if cond.label is not None and "c2i_train_drop_mask" in replay.golden.info:
        cond.drop = torch.tensor(replay.golden.info["c2i_train_drop_mask"])
    return cond


def test_every_recorded_tensor_is_compared(golden):
    family.check_keys(golden, KEYS)


def test_training_pass(replay):
    codes, cond = replay.golden["idx"], training_cond(replay)
    losses = replay.head.loss(replay.read(codes, cond), codes)
    assert_close("logits", replay.logits(codes, cond), replay.golden["train_logits"])
    assert_close("loss", losses.mean(), replay.golden["train_loss"].squeeze())
    family.check_valid_losses("llamagen", losses, replay.golden)
    if any(key.startswith("grad.") for key in replay.golden):
        family.check_gradients("llamagen", replay, losses.mean())


def test_samples(replay, golden):
    cond = replay.cond()
    if cond.label is not None:
        batch = len(next(iter(replay.golden.sub("gen.").values())))
        cond = family.Cond(batch, label=family.sample_labels(golden, "c2i", batch))
    calls = family.check_samples("llamagen", replay, cond, until_step)
    assert calls == {len(replay.plan)}, "one call a token, the condition's included"


def test_wrong_weights_fail(replay):
    """A change of any weight that the training pass uses moves the logits beyond the tolerance."""
    family.check_perturbed(replay, training_cond(replay))


def test_paper_sizes(golden):
    family.check_sizes("llamagen", family.fact(golden, "param_counts"))


def test_paper_names(golden):
    if not family.check_names("llamagen", golden.info):
        pytest.skip(f"the recording {golden.path} names no weights of paper sizes")
