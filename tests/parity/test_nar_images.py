"""NAR's image models, class- and text-conditional, against recordings of the published code."""

from __future__ import annotations

import math

import pytest
import torch
from parity import family
from parity.golden import Golden, assert_close, assert_equal, load, variant

from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.plans.shifted import next_neighbor
from arzoo.samplers.schedules import until_tokens

KEYS = [
    r"(c2i|t2i)\.(sd|gen|grad)\..+",
    r"(c2i|t2i)\.(cond|idx|emb|emb_mask|train_logits|train_loss|train_loss_valid_[01]+|mask|freqs_cis)",
    r"\w+\.(mask|freqs_cis)",
]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("nar_images")


@pytest.fixture(params=["c2i", "t2i"])
def replay(golden: Golden, request: pytest.FixtureRequest) -> family.Replay:
    name = variant(golden, request.param)
    return family.Replay.of(golden.sub(f"{name}."), golden.info[f"{name}_config"], "nar")


def check_tables(name: str, replay: family.Replay, golden: Golden) -> None:
    slots, count = replay.layout()
    if "mask" in golden:
        want = golden["mask"].bool()
        assert_equal(f"{name} mask", replay.raster_mask(), want if want.dim() == 3 else want[None])
    if "freqs_cis" in golden:
        assert_close(f"{name} rotary table", replay.rotary(slots.sort().values, count), golden["freqs_cis"])


def test_every_recorded_tensor_is_compared(golden):
    family.check_keys(golden, KEYS)


def test_mask_and_rotary_table(replay):
    check_tables("nar", replay, replay.golden)


def test_mask_and_rotary_table_of_real_sizes(golden):
    names = {key.split(".")[0] for key in golden} - {"c2i", "t2i"}
    if not names:
        pytest.skip(f"the recording {golden.path} holds no tables of real sizes")
    for name in names:
        tables = golden.sub(f"{name}.")
        length, half, _ = tables["freqs_cis"].shape
        side = math.isqrt(length)
        assert length == side * side + 1, "one class token and a square of codes"
        config = TransformerConfig(
            width=2 * half, heads=1, depth=1, vocab=2, classes=1, grid=(1, side, side), axes=2
        )
        label = Golden({"cond": torch.zeros(1, dtype=torch.long)}, {})
        backbone = config.build()
        check_tables(name, family.Replay(label, backbone, [], next_neighbor(backbone.layout)), tables)


def test_training_pass(replay):
    codes, cond = replay.golden["idx"], replay.cond()
    losses = replay.head.loss(replay.read(codes, cond), codes)
    assert_close("logits", replay.logits(codes, cond), replay.golden["train_logits"])
    assert_close("loss", losses.mean(), replay.golden["train_loss"].squeeze())
    family.check_valid_losses("nar", losses, replay.golden)
    if any(key.startswith("grad.") for key in replay.golden):
        family.check_gradients("nar", replay, losses.mean())


def sampling_cond(replay: family.Replay, golden: Golden) -> family.Cond:
    cond = replay.cond()
    if cond.label is None:
        return cond
    batch = len(next(iter(replay.golden.sub("gen.").values())))
    return family.Cond(batch, label=family.sample_labels(golden, "c2i", batch))


def test_samples(replay, golden):
    calls = family.check_samples("nar", replay, sampling_cond(replay, golden), until_tokens)
    assert calls == {2 * replay.plan.layout.h - 1}, "one call a diagonal, the condition's included"


def test_parallel_pass_repeats_greedy_samples(replay, golden):
    cond, variant = sampling_cond(replay, golden), "c2i" if replay.cond().label is not None else "t2i"
    if f"{variant}_teacher_forced_matches_greedy" not in golden.info:
        pytest.skip(f"nar_images.json records no {variant}_teacher_forced_matches_greedy")
    family.check_greedy_repeats(replay, cond, golden.info[f"{variant}_teacher_forced_matches_greedy"])


def test_wrong_weights_fail(replay):
    """A change of any weight that the training pass uses moves the logits beyond the tolerance."""
    family.check_perturbed(replay, replay.cond())


def test_paper_sizes(golden):
    family.check_sizes("nar", family.fact(golden, "param_counts"))


def test_paper_names(golden):
    if not family.check_names("nar", golden.info):
        pytest.skip(f"the recording {golden.path} names no weights of paper sizes")
