"""What a generator is asked in Python, as one would guess it: subjects, counts, knobs, pictures and masks."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from command import CLASSES, picture, tiny_generator
from PIL import Image
from words import add_words

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.estimate import parameters_in_words
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.generation.gaps import OtherPlan
from arzoo.generation.generator import Generator
from arzoo.generation.inputs import Unseen
from arzoo.generation.prompts import PromptReader
from arzoo.samplers.schedules import over_steps


def with_texts(monkeypatch, tokenizer, folder, classes) -> Generator:
    reader = PromptReader(add_words(monkeypatch), 4)
    return Generator.load(tiny_generator(folder, tokenizer, text=reader, classes=classes), tokenizer)


@pytest.mark.parametrize(
    ("subjects", "num", "shown"),
    [
        ("food/plain", None, ["food/plain"]),
        (2, None, ["food/plain"]),
        ("2", None, ["food/plain"]),
        (np.int64(1), 2, ["animal/round", "animal/round"]),
        (["food/plain", 0], None, ["food/plain", "animal/plain"]),
        (np.array([2, 0]), 3, ["food/plain", "animal/plain", "food/plain"]),
        (torch.tensor([1, 2]), None, ["animal/round", "food/plain"]),
        ("animal", 3, ["animal/plain", "animal/round", "animal/plain"]),
        (["animal", "food"], 4, ["animal/plain", "food/plain", "animal/round", "food/plain"]),
        (None, 2, ["animal/plain", "animal/round"]),
        (
            None,
            6,
            ["animal/plain", "animal/plain", "animal/round", "animal/round", "food/plain", "food/plain"],
        ),
        (Cond(2, label=torch.tensor([2, -1])), None, ["food/plain", ""]),
    ],
)
def test_subjects_are_named_and_used_in_turn(model, subjects, num, shown):
    drawings = model.generate(subjects, num, seed=3)
    assert list(drawings.subjects) == shown
    labels = torch.tensor([CLASSES.index(name) if name else -1 for name in shown])
    assert torch.equal(drawings, model.generate(cond=Cond(len(shown), label=labels), seed=3))
    assert drawings.seeds == tuple(sample_seed(3, i) for i in range(len(shown)))
    *_, last = model.stream(subjects, num=num, seed=3)
    assert torch.equal(last.preview(), drawings)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"subjects": "animal/plaix"}, "animal/plain"),
        ({"subjects": 3}, "class 3 is out of range"),
        ({"subjects": []}, "class of every picture"),
        ({"subjects": 0.5}, "whole number"),
        ({"subjects": [[0]]}, "whole number"),
        ({"subjects": 0, "num": 0}, "num must be a whole number of at least 1"),
        ({"subjects": 0, "num": 2, "seeds": [1]}, "2 classes or prompts but 1 seeds"),
        ({"subjects": 0, "classes": [0]}, "given twice"),
        ({"subjects": Cond(1), "cond": Cond(1)}, "given twice"),
        ({}, r"give classes=\[...\]"),
    ],
)
def test_subjects_that_cannot_be_drawn(model, request_, words):
    with pytest.raises(ArzooError, match=words):
        model.generate(**request_)


def test_texts_are_prompts_and_names_of_classes_are_classes(monkeypatch, folder, tmp_path):
    model = with_texts(monkeypatch, folder / "tok", tmp_path / "texts", ())
    drawings = model.generate("red heart", num=2, seed=1)
    assert drawings.subjects == ("red heart", "red heart")
    assert torch.equal(drawings, model.generate(prompts=["red heart"] * 2, seed=1))
    assert torch.equal(model.generate("animal"), model.generate(prompts=["animal"]))
    assert torch.equal(model.generate(prompts=["a", "b"], num=3), model.generate(prompts=["a", "b", "a"]))
    for wrong in ({"subjects": 0}, {"num": 3}):
        with pytest.raises(ArzooError, match="draws what a text says"):
            model.generate(**wrong)
    both = with_texts(monkeypatch, folder / "tok", tmp_path / "both", CLASSES)
    assert both.generate("animal", num=2).subjects == ("animal/plain", "animal/round")
    assert torch.equal(both.generate("animal/plain"), both.generate(classes=[0]))
    assert both.generate("an animal").subjects == ("an animal",)
    assert both.generate(num=3).subjects == CLASSES
    with pytest.raises(ArzooError, match="'food' is a class and 'a dog' a text"):
        both.generate(["a dog", "food"])


def test_knobs_are_named_one_by_one(model):
    control = Control(guidance=3, temperature=0.8)
    drawn = model.generate([0, 1], guidance=3, temperature=0.8)
    assert torch.equal(drawn, model.generate([0, 1], control=control))
    assert not torch.equal(drawn, model.generate([0, 1], guidance=1))
    *_, last = model.stream([0, 1], guidance=3, temperature=0.8)
    assert torch.equal(last.preview(), drawn)
    mixed = model.generate([0, 1], control=Control(guidance=3, temperature=0.1), temperature=0.8)
    assert torch.equal(mixed, drawn), "a knob by name counts, beside those of the control"
    assert torch.equal(model.generate([0], greedy=True), model.generate([0], control=Control(greedy=True)))


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        (
            {"temperaturx": 0.8},
            r"unknown knob 'temperaturx'. Did you mean 'temperature'\? Knobs: guidance, interval",
        ),
        ({"number": 4}, r"unknown knob 'number'. Did you mean 'num'\?.*Other arguments: subjects, num, seed"),
        ({"temperature": 0}, "temperature 0 must be above 0.*greedy=True"),
        ({"guidance": "3"}, "guidance '3' must be from"),
        ({"top_p": 2}, "top_p 2 must be above 0 and at most 1"),
        ({"interval": (0, 2)}, "interval must be a pair"),
    ],
)
def test_knobs_that_do_not_exist_name_those_that_do(model, knobs, words):
    with pytest.raises(ArzooError, match=words):
        model.generate([0], **knobs)
    with pytest.raises(ArzooError, match=words.replace("subjects, num, seed", "subjects, seeds")):
        next(model.stream([0], **knobs))


def test_options_of_the_plan_are_no_knobs(masked):
    with pytest.raises(ArzooError, match=r"option of the plan: model.with_plan\(steps=4\)"):
        masked.generate([0], steps=4)


def kept_top() -> np.ndarray:
    """A mask that keeps the upper half of 16 x 16 pixels."""
    return np.arange(16)[:, None].repeat(16, 1) >= 8


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        (kept_top(), 8),
        (kept_top().tolist(), 8),
        (torch.from_numpy(kept_top()), 8),
        (kept_top().astype(np.float32), 8),
        (kept_top().astype(np.uint8) * 255, 8),
        (Image.fromarray(kept_top().astype(np.uint8) * 255), 8),
        (Image.fromarray(kept_top().astype(np.uint8) * 255).convert("1"), 8),
        (np.roll(kept_top(), -1, 0), 4),  # a token is kept as a whole or not at all
    ],
)
def test_a_mask_says_what_is_drawn_anew(masked, mask, kept):
    if kept == 4:
        mask[-1] = True
    photo = picture_of(16)
    given = masked.encode(photo).select(torch.zeros(2, dtype=torch.long))
    given.known[:, kept:] = given.given[:, kept:] = False
    *_, last = masked.stream([0, 1], seed=2, given=given)
    assert torch.equal(masked.generate([0, 1], seed=2, init=photo, mask=mask), last.preview())


def picture_of(side: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_pictures_to_complete_may_be_images_files_and_arrays(masked, tmp_path):
    photo, mask = picture_of(16), kept_top()
    photo.save(tmp_path / "a photo.png")
    first = masked.generate(0, init=photo, mask=mask)
    pixels, file = np.array(photo), tmp_path / "a photo.png"
    for same in (
        pixels,
        torch.from_numpy(pixels),
        str(file),
        file,
        [photo],
        pixels[None],
        pixels[None, None],
    ):
        assert torch.equal(masked.generate(0, init=same, mask=mask), first)
    other = picture_of(16, 1)
    both = masked.generate(0, 2, init=[photo, other], mask=mask)
    assert torch.equal(both[:1], first)
    assert torch.equal(both[1:], masked.generate(0, seeds=both.seeds[1:], init=other, mask=mask))


def test_the_file_of_a_picture_to_complete_is_read_once(masked, tmp_path, monkeypatch):
    picture_of(16).save(tmp_path / "photo.png")
    opened, open_ = [], Image.open
    monkeypatch.setattr(Image, "open", lambda file, *rest: opened.append(file) or open_(file, *rest))
    masked.generate(0, init=tmp_path / "photo.png", mask=kept_top())
    assert len(opened) == 1


def test_a_photo_and_its_mask_are_cropped_alike(masked):
    photo = Image.new("RGB", (64, 32), "white")
    photo.paste("red", (16, 0, 48, 32))
    mask = np.zeros((32, 64), dtype=bool)
    mask[16:] = True
    drawn = masked.generate(0, init=photo, mask=mask)
    small = Image.new("RGB", (16, 16), "red")
    assert torch.equal(drawn, masked.generate(0, init=small, mask=kept_top()))
    assert torch.equal(drawn, masked.generate(0, init=photo, mask=kept_top())), "of the model's size"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mask": np.zeros((8, 8), dtype=bool)},
            r"mask is 8 wide and 8 high.*16 x 16, as the model draws.*resize",
        ),
        (
            {"init": picture_of(32), "mask": np.zeros((8, 9), dtype=bool)},
            r"9 wide and 8 high.*or 32 x 32, as the pic",
        ),
        ({"mask": np.zeros((16, 16, 3), dtype=bool)}, r"a mask is \(H, W\), one number a pixel"),
        ({"mask": "top"}, r"a mask is a PIL image, or an array \(H, W\); got 'top'"),
        ({"mask": None}, "init=picture and mask=mask go together"),
        ({"init": None}, "init=picture and mask=mask go together"),
        (
            {"mask": np.ones((16, 16), dtype=bool)},
            "the mask leaves nothing of the picture: tokens cover 4 x 4",
        ),
        ({"mask": np.zeros((16, 16), dtype=bool)}, "the mask leaves the whole picture"),
        ({"init": [picture_of(16)] * 3}, "2 pictures are requested and 3 are given"),
        (
            {"init": np.zeros((8, 8, 3), np.uint8)},
            r"pictures must be \(B, 16, 16, 3\) uint8.*PIL images of any size",
        ),
        ({"init": np.zeros((16, 16, 3))}, "uint8.*float64"),
        ({"init": "no such file.png"}, "there is no file no such file.png"),
        ({"init": 3}, "pictures are PIL images, files, or arrays"),
        ({"init": []}, "pictures are PIL images, files, or arrays"),
        ({"given": "tokens"}, "either a picture with its mask, or given tokens"),
    ],
)
def test_masks_and_pictures_that_do_not_belong_together(masked, changes, words):
    with pytest.raises(ArzooError, match=words):
        masked.generate([0, 1], **{"init": picture_of(16), "mask": kept_top(), **changes})


def test_a_file_that_is_no_picture(masked, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ArzooError, match=r"text.png is not a whole picture"):
        masked.generate(0, init=tmp_path / "text.png", mask=kept_top())


def test_what_is_not_seen_while_drawing_is_said(model, masked):
    photo, mask = picture_of(16), kept_top()
    with pytest.warns(Unseen, match="kept but not seen while drawing"):
        model.generate(0, init=photo, mask=~mask)
    first = np.zeros((16, 16), dtype=bool)
    first[4:, :] = first[:, 4:] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(0, init=photo, mask=first)
        masked.generate(0, init=photo, mask=~mask)


def test_encode_takes_what_generate_draws(model, tmp_path):
    drawings = model.generate([0, 1, 2])
    codes = model.encode(drawings).values
    for same in (
        drawings.images,
        drawings.tensor,
        drawings.stills,
        drawings.stills.numpy(),
        list(drawings.stills),
    ):
        assert torch.equal(model.encode(same).values, codes)
    assert torch.equal(model.encode(drawings.save(tmp_path / "out")).values, codes)
    assert model.encode(picture(tmp_path / "large.png", (40, 20))).values.shape == (1, 16)


def test_pictures_of_unlike_sizes_are_refused(model):
    with pytest.raises(ArzooError, match="have one size"):
        model.encode([np.zeros((16, 16, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])


def test_plans_that_the_weights_were_not_trained_for_draw_with_a_warning(folder):
    tokenizer = Generator.load(folder / "gen").tokenizer
    raster = Generator.create("raster_tiny", tokenizer, "raster", classes=CLASSES, tokenizer_name="", tokenizer_hash="",
                              width=32, depth=1, heads=2)  # fmt: skip
    assert raster.follows_training
    rows = raster.with_plan("zipar", distance=1)
    with pytest.warns(OtherPlan, match="trained with plan raster; with zipar its pictures may be worse"):
        rows.generate(0)
    with pytest.warns(OtherPlan):
        rows.with_weights(raster.backbone, raster.heads).generate(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raster.generate(0)
        raster.with_plan("zipar", distance=4).generate(0)  # rows of four tokens: it is raster order
        rows.with_plan("raster").generate(0)


def test_masked_models_are_trained_for_any_number_of_steps(masked):
    assert masked.with_plan(steps=2).follows_training


def test_what_a_model_is_can_be_read(model, masked):
    tokenizer = f"Tokenizer vq of pictures, 16 x 16 pixels, {parameters_in_words(model.tokenizer)}"
    assert repr(model.tokenizer).splitlines() == [tokenizer, "  tokens: 4 x 4 codes, each one of 16"]
    weights = [*model.backbone.parameters(), *model.heads[0].parameters()]
    assert repr(model).splitlines() == [
        f"Generator of pictures, 16 x 16 pixels, {sum(p.numel() for p in weights)} parameters",
        "  draws:     3 classes, such as 'animal/plain'",
        "  plan:      next_neighbor, 7 network calls a picture",
        "  tokenizer: tok: 4 x 4 codes, each one of 16",
        "  device:    cpu",
        "  knobs:     guidance=1, temperature=1, top_k=0, top_p=1, greedy=False",
    ]
    text = repr(masked.with_plan(steps=2))
    for part in (
        "masked (steps=2), 2 network calls",
        "4 x 4 vectors of 3 numbers",
        "head_steps=",
        "interval=",
    ):
        assert part in text
    assert "top_k" not in text
    control = Control(guidance=over_steps(1.0, 3.0))
    scheduled = Generator(model.tokenizer, model.backbone, model.heads, "next_neighbor", control=control)
    assert "guidance=over_steps(1, 3)" in repr(scheduled)


def test_devices_are_named(model):
    assert model.to("cpu") is model.to("auto").to(torch.device("cpu")) is model
    with pytest.raises(UnknownName, match="cuda"):
        model.to("cudda")
    if not torch.cuda.is_available():
        with pytest.raises(ArzooError, match="not on this machine"):
            model.to("cuda")
