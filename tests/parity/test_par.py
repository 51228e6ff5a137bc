"""PAR with several grids and region counts, against recordings of the published code."""

from __future__ import annotations

import pytest
import torch
from parity import family
from parity.golden import Golden, assert_close, assert_equal, load

from arzoo.samplers.schedules import until_step

KEYS = [
    r"\w+\.(sd|gen_raster|gen_seq|grad)\..+",
    r"\w+\.(cond|raster|reordered|group_mask|freqs_cis|train_logits|train_loss|train_loss_valid_[01]+)",
]


def variants(golden: Golden) -> list[str]:
    return [
        name for name, value in golden.info.items() if isinstance(value, dict) and "ar_token_num" in value
    ]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("par")


@pytest.fixture(scope="module")
def replays(golden: Golden) -> dict[str, family.Replay]:
    """One a variant; how many there are is only known once the file is open."""
    found = {
        name: family.Replay.of(golden.sub(f"{name}."), golden.info[name], "par") for name in variants(golden)
    }
    assert found
    return found


def sequence(replay: family.Replay) -> torch.Tensor:
    """Positions in the order in which their inputs are fed."""
    slots = replay.layout()[0][0]
    return slots[slots < replay.plan.layout.size]


def test_every_recorded_tensor_is_compared(golden):
    family.check_keys(golden, KEYS)


def test_order(replays):
    for name, replay in replays.items():
        config = replay.golden.info[name]
        assert replay.backbone.extras == config["spe_token_num"] == config["ar_token_num"] - 1
        got = replay.golden["raster"][:, sequence(replay)]
        assert_equal(f"{name} order", got, replay.golden["reordered"])


def test_mask_and_rotary_table(replays):
    for name, replay in replays.items():
        slots, count = replay.layout()
        mask = replay.backbone.full_mask(replay.cond(), replay.plan, slots, count)[0]
        assert_equal(f"{name} mask", mask, replay.golden["group_mask"].bool())
        assert_close(f"{name} rotary table", replay.rotary(slots, count), replay.golden["freqs_cis"])


def test_training_pass(replays):
    for name, replay in replays.items():
        codes, cond, order = replay.golden["raster"], replay.cond(), sequence(replay)
        losses = replay.head.loss(replay.read(codes, cond), codes)
        assert_close(f"{name} logits", replay.logits(codes, cond)[:, order], replay.golden["train_logits"])
        assert_close(f"{name} loss", losses.mean(), replay.golden["train_loss"].squeeze())
        family.check_valid_losses(name, losses, replay.golden)
        if any(key.startswith("grad.") for key in replay.golden):
            family.check_gradients(name, replay, losses.mean())


def test_samples(replays, golden):
    for name, replay in replays.items():
        batch = len(replay.golden["raster"])
        cond = family.Cond(batch, label=family.sample_labels(golden, name, batch))
        calls = family.check_samples(name, replay, cond, until_step, whole_group=True, prefix="gen_raster.")
        assert calls == {golden.info.get(f"{name}_forwards", len(replay.plan))}
        for key, codes in replay.golden.sub("gen_seq.").items():
            raster = replay.golden[f"gen_raster.{key}"]
            assert_equal(f"{name} {key} in sequence order", raster[:, sequence(replay)], codes)


def test_parallel_pass_repeats_greedy_samples(replays, golden):
    for name, replay in replays.items():
        for key, codes in replay.golden.sub("gen_raster.").items():
            if "greedy" in family.knobs(key) and family.knobs(key).get("cfg", 1) <= 1:
                cond = family.Cond(len(codes), label=family.sample_labels(golden, name, len(codes)))
                same = (replay.logits(codes, cond).argmax(-1) == codes).float().mean().item()
                assert same == pytest.approx(golden.info.get(f"{name}_teacher_forced_agreement", 1.0))


def test_wrong_weights_fail(replays):
    """A thousandth more on any tensor moves the logits beyond the tolerance."""
    for replay in replays.values():
        order = sequence(replay)
        family.check_perturbed(replay, replay.cond(), "raster", lambda logits, order=order: logits[:, order])


def test_paper_sizes(golden):
    for name, count in family.fact(golden, "params").items():
        _, size, regions = name.split("-")
        _, weights = family.preset(f"par{regions.removesuffix('x')}_{size.lower()}")
        assert sum(w.numel() for w in weights.values()) == count, name
