"""NAR's model of clips against recordings of the published code; its tokenizer is in `test_larp.py`."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from parity import family
from parity.golden import Golden, assert_close, assert_equal, load
from parity.wrong import fails

from arzoo.core.condition import Cond
from arzoo.core.plan import NONE
from arzoo.samplers.plans.shifted import raster
from arzoo.samplers.schedules import until_tokens

KEYS = [r"ar\.(sd|gen|grad)\..+", r"ar\.(cond|idx|mask|train_logits|train_loss)", r"tok\..+"]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("nar_video")


@pytest.fixture
def replay(golden: Golden) -> family.Replay:
    return family.Replay.of(golden.sub("ar."), golden.info["ar_config"], "nar_video")


def training_cond(golden: Golden) -> Cond:
    """Labels of the training pass: -1 and the drop flag both mean the null class."""
    label = golden["ar.cond"].flatten()
    drop = golden.info.get("ar_class_drop")
    return Cond(len(label), label=label, drop=None if drop is None else torch.tensor(drop))


def sampling_cond(golden: Golden) -> Cond:
    batch = len(next(iter(golden.sub("ar.gen.").values())))
    return Cond(batch, label=family.sample_labels(golden, "ar", batch))


def test_every_recorded_tensor_is_compared(golden):
    family.check_keys(golden, KEYS)


def test_sizes_are_those_of_the_recorded_arguments(replay, golden):
    config, ours = golden.info["ar_config"], replay.backbone.config
    assert ours.grid == tuple(config["latent_shape"])
    assert (ours.classes, ours.heads) == (config["num_classes"], config["n_head"])
    assert ours.layout.size == config["max_seq_len"]


def test_mask(replay, golden):
    want = golden["ar.mask"].bool()
    assert_equal("mask", replay.raster_mask(), want if want.dim() == 3 else want[None])
    frames, rows, columns = replay.plan.layout.shape
    assert len(replay.plan) == frames + rows + columns - 2


def test_training_pass(replay, golden):
    codes, cond = golden["ar.idx"], training_cond(golden)
    losses = replay.head.loss(replay.read(codes, cond), codes)
    assert_close("logits", replay.logits(codes, cond), golden["ar.train_logits"])
    assert_close("loss", losses.mean(), golden["ar.train_loss"].squeeze())
    family.check_gradients("nar_video", replay, losses.mean())


def test_both_marks_of_a_null_class_are_the_same(replay, golden):
    codes, label = golden["ar.idx"], golden["ar.cond"].flatten().clamp(min=0)
    null = (golden["ar.cond"].flatten() < 0) | torch.tensor(golden.info.get("ar_class_drop", False))
    by_label = Cond(len(label), label=label.masked_fill(null, -1))
    by_flag = Cond(len(label), label=label, drop=null)
    for name, cond in {"label": by_label, "flag": by_flag}.items():
        assert_close(f"logits by {name}", replay.logits(codes, cond), golden["ar.train_logits"])
    if bool(null.any()):
        kept = replay.logits(codes, Cond(len(label), label=label))
        assert fails(lambda: assert_close("not dropped", kept, golden["ar.train_logits"]))


def test_logits_are_mixed_by_the_neighbours_of_a_target(replay, golden):
    """Each axis has a head of its own; those without a decoded neighbor take no part."""
    codes, cond = golden["ar.idx"], training_cond(golden)
    read = replay.read(codes, cond)
    places = torch.arange(replay.plan.layout.size)
    coords = replay.plan.layout.coords()
    first = places == 0
    for head, axis in enumerate((2, 1, 0)):
        has = replay.plan.source(places[None])[0, :, head] != NONE
        assert torch.equal(has, (coords[:, axis] > 0) | first)
    want = golden["ar.train_logits"]
    wrong = {
        "all heads": replace(read, available=None),
        "heads in another order": replace(read, features=read.features.flip(2)),
        "the first head": replace(read, features=read.features[:, :, :1].expand_as(read.features)),
    }
    for name, twin in wrong.items():
        assert fails(lambda twin=twin: assert_close("logits", replay.head.predict(twin), want)), name


def test_another_mask_fails(replay, golden):
    """Raster order hides the tokens of the same shell."""
    neighbor, order = replay.plan, raster(replay.plan.layout)
    replay.plan = replace(order, sources=neighbor.sources)
    got = replay.logits(golden["ar.idx"], training_cond(golden))
    assert fails(lambda: assert_close("logits", got, golden["ar.train_logits"]))


def test_samples(replay, golden):
    calls = family.check_samples("nar_video", replay, sampling_cond(golden), until_tokens)
    assert calls == {len(replay.plan)}, "one call a shell, the class's included"
    recorded = {value for key, value in golden.info.items() if key.startswith("ar_forwards_for_")}
    assert recorded <= calls


def test_parallel_pass_repeats_greedy_samples(replay, golden):
    expected = family.fact(golden, "ar_teacher_forced_matches_greedy")
    family.check_greedy_repeats(replay, sampling_cond(golden), expected)


def test_wrong_weights_fail(replay, golden):
    """A change of any weight moves the logits beyond the tolerance."""
    family.check_perturbed(replay, training_cond(golden))


def test_paper_sizes(golden):
    for name, count in family.fact(golden, "ar_param_counts").items():
        _, weights = family.preset(f"nar_clip_{name.rpartition('-')[2].lower()}")
        assert sum(w.numel() for w in weights.values()) == count, name


def test_paper_names(golden):
    entries = {
        match[1]: want for key, want in golden.info.items() if (match := re.fullmatch(r"([A-Z]+)_keys", key))
    }
    if not entries:
        pytest.skip(f"the recording {golden.path} names no weights of paper sizes")
    for size, want in entries.items():
        _, weights = family.preset(f"nar_clip_{size.lower()}")
        got = {key: list(w.shape) for key, w in weights.items()}
        assert want.items() <= got.items(), size
