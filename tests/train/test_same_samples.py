"""A step trains on the same samples, drawn alike, however it is cut into micro-batches and processes."""

import json

import pytest
import torch
import toy
from command import tiny_kl_tokenizer, tiny_tokenizer
from rich.console import Console
from timm.models.vision_transformer import Block
from torch import nn

import arzoo.data
from arzoo.base import registry
from arzoo.core.draws import Draws
from arzoo.data.base import ImageSet
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.karl.network import KarlConfig
from arzoo.tokenizers.kl.network import KLTokenizerConfig
from arzoo.tokenizers.longcat.presets import longcat_8_micro
from arzoo.tokenizers.vq.network import VQTokenizerConfig
from arzoo.train.build import prepared
from arzoo.train.noise import SampleNoise, kept
from arzoo.train.recipe import Recipe

STEPS = 3
SMALL = {"width": 32, "depth": 1, "dropout": 0.1}
MODULATED = {"width": 48, "dropout": 0.1}
AUGMENT = {"augment": {"shift": 0.2, "resize": 0.5}}
FAMILIES = {
    "raster": {"tokenizer": "vq", "model": {"name": "raster_tiny", **SMALL}, "generator": {"token_noise": 0.1}},
    "next-neighbor": {"tokenizer": "vq", "model": {"name": "nar_tiny", **SMALL}, "plan": "next_neighbor"},
    "mar": {"tokenizer": "kl", "model": {"name": "mar_tiny", **SMALL, "attention_dropout": 0.1}, "plan": "masked"},
    "xar": {"tokenizer": "kl", "model": {"name": "xar_tiny", **MODULATED}, "plan": {"name": "cells", "regions": 2}},
    "flowar": {"tokenizer": "kl", "model": {"name": "flowar_tiny", **MODULATED}, "plan": "scales"},
    "vq": AUGMENT | {"task": "tokenizer", "model": "tiny_vq", "codebook": {"seed_at": 1, "restart_every": 1}},
    "longcat": AUGMENT | {"task": "tokenizer", "model": "tiny_longcat", "codebook": {"seed_at": 1, "restart_every": 1}},
    "kl": AUGMENT | {"task": "tokenizer", "model": "tiny_kl"},
    "karl": AUGMENT
    | {"task": "tokenizer", "model": "tiny_karl", "base": "kl", "codebook": {"seed_at": 1, "restart_every": 1}},
}  # fmt: skip
LOSS = {"perceptual": 0.0, "adversarial": 0.0}
PIXELS = {"l1": 0.0, "l2": 0.0}
PICTURES = {"image_size": 16, "widths": (32, 32, 32), "encoder_blocks": 1, "decoder_blocks": 1}


def pictures(*_):
    """Twenty pictures of two classes, one of them rare."""
    images = torch.randint(0, 256, (20, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(20) % 5 == 0).long()
    return ImageSet("uneven", images.to(torch.uint8), labels, ("much", "rare"), torch.arange(20) >= 16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the tokenizers are."""
    monkeypatch.setattr(arzoo.data, "load", pictures)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    entries = registry._entries["tokenizer"]
    codes = {"latent": 32, "attention": False, "vocab": 16, "code_channels": 4}
    monkeypatch.setitem(entries, "tiny_vq", lambda: VQTokenizerConfig(**PICTURES, **codes))
    attention = {"encoder_attention": "none", "decoder_attention": "none"}
    kl = KLTokenizerConfig(**PICTURES, **attention, channels=3)
    stack = StackConfig(width=16, depth=1, heads=2)
    slots = {"slots": 8, "table_slots": 12, "table_side": 4, "channels": 4, "vocab": 16}
    karl = KarlConfig(image_size=16, base=kl, encoder=stack, decoder=stack, exact_base=True, **slots)
    longcat = longcat_8_micro().replace(image_size=16, codebook_dropout=0.5)
    monkeypatch.setitem(entries, "tiny_longcat", lambda: longcat)
    monkeypatch.setitem(entries, "tiny_kl", lambda: kl)
    monkeypatch.setitem(entries, "tiny_karl", lambda: karl)
    tiny_tokenizer(tmp_path / "vq")
    tiny_kl_tokenizer(tmp_path / "kl")
    return tmp_path


def course(folder, family, balance, accumulate):
    """Loss of every step over all processes, and the gradient norm of the last."""
    changes = FAMILIES[family]
    changes = changes | {key: str(folder / changes[key]) for key in ("tokenizer", "base") if key in changes}
    pace = {"steps": STEPS, "batch": 8, "accumulate": accumulate, "log_every": 100, "trackers": []}
    whole = {
        "task": "generator",
        "data": "uneven",
        "balance": balance,
        "variants": 2,
        "loss": LOSS | (PIXELS if family == "karl" else {}),
    }
    whole |= {"optim": {"lr": 1e-3, "warmup": 1, "clip": 1e9}, "run": pace}
    engine = prepared(Recipe.from_dict(whole | changes), folder / "out", Console(quiet=True), None)
    batches, losses = engine.batches(range(STEPS)), []
    for _ in range(STEPS):
        line = engine.train_step(batches, engine.wrapped)
        engine.step += 1
        losses.append(float(engine.accelerator.reduce(torch.as_tensor(line["loss"]), "mean")))
    return [*losses, float(line["model_gradient_norm"])]


CASES = [*((family, 0.5) for family in FAMILIES), ("raster", 0.0)]


def all_courses(folder, path):
    courses = [course(folder, *case, accumulate) for accumulate in (1, 2) for case in CASES]
    if torch.distributed.get_rank() == 0:
        path.write_text(json.dumps(courses))


def test_micro_batches_and_processes_change_roundings_only(folder):
    whole = [course(folder, *case, 1) for case in CASES]
    assert [course(folder, *case, 2) for case in CASES] == [pytest.approx(one, rel=1e-4) for one in whole]
    toy.together(2, all_courses, folder, folder / "courses.json")
    courses = json.loads((folder / "courses.json").read_text())
    assert courses == [pytest.approx(one, rel=1e-4) for one in whole + whole]
    assert len({tuple(one) for one in whole}) == len(CASES), "each case is one of its own"


def test_layers_draw_by_sample():
    layers = nn.Sequential(nn.Dropout(0.5), Block(8, 2, attn_drop=0.5, proj_drop=0.5))

    def output(*numbers):
        torch.manual_seed(3)
        with SampleNoise(Draws(numbers)):
            x = layers(torch.ones(len(numbers), 5, 8))
            return x + torch.randn_like(x)

    torch.testing.assert_close(output(4, 7, 9), torch.cat([output(4), output(7, 9)]))
    assert not torch.allclose(output(4), output(7))
    with SampleNoise(Draws([1, 2])):
        assert not torch.equal(*(nn.Dropout(0.5)(torch.ones(2, 64)) for _ in range(2))), (
            "calls are independent"
        )
        assert torch.equal(layers.eval()[0](torch.ones(2, 64)), torch.ones(2, 64))


def test_dropped_attention_weights_keep_the_mean_of_attention():
    query, key, value = torch.randn(3, 2, 4, 5, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    attend = nn.functional.scaled_dot_product_attention
    for options in ({"attn_mask": mask}, {"attn_mask": mask.float().log()}, {"scale": 0.1}, {}):
        torch.manual_seed(0)
        with SampleNoise(Draws([1, 2])):
            dropped = [attend(query, key, value, dropout_p=0.1, **options) for _ in range(400)]
            whole = attend(query, key, value, **options)
        torch.testing.assert_close(torch.stack(dropped).mean(0), whole, atol=0.15, rtol=0)
        assert not torch.equal(dropped[0], dropped[1])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked(p):
    shares = kept(Draws(range(100)), (100, 30, 31), p, torch.device("cpu")).float().mean((1, 2))
    assert abs(float(shares.mean()) - (1 - p)) < 5 * (p * (1 - p) / 93000) ** 0.5
    assert float(shares.std()) == pytest.approx((p * (1 - p) / 930) ** 0.5, rel=0.4)
