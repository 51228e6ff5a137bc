"""Requests to a generator and its drawings: given tokens, counts, exact decoding."""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from continuous import PatchesConfig, made
from PIL import Image

import arzoo
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.data.transforms import to_model
from arzoo.generation.drawings import Drawings
from arzoo.generation.generator import Generator
from arzoo.generation.request import NoEffect


@pytest.fixture(scope="module")
def models(folder) -> dict[str, Generator]:
    """One of each kind: codes in a fixed order, vectors in a random one, in cells and over a pyramid."""
    vectors = {name: made(name, folder / "vectors") for name in ("mar", "xar cells", "flowar")}
    return {"codes": Generator.load(folder / "gen"), **vectors}


@pytest.fixture(params=["codes", "mar", "xar cells", "flowar"])
def model(request, models) -> Generator:
    return models[request.param]


def tokens_of(model: Generator, rows: int, known: int) -> Tokens:
    """Tokens of random pictures, of which the first ones are known."""
    random = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (rows, 1, 16, 16, 3), generator=random, dtype=torch.uint8)
    with torch.no_grad():
        values = model.tokenizer.encode(to_model(images)).values
    return Tokens.of(values, (torch.arange(16) < known).expand(rows, -1))


def test_drawings_are_a_tensor_of_clips_with_their_pictures(models, tmp_path):
    drawings = models["codes"].generate([0, 1], seed=1)
    assert isinstance(drawings, Drawings)
    assert (drawings.shape, drawings.dtype) == ((2, 1, 16, 16, 3), torch.uint8)
    assert torch.equal(drawings.stills, drawings[:, 0])
    assert type(drawings.stills) is type(drawings[0]) is type(drawings + 1) is torch.Tensor
    assert np.asarray(drawings.stills).shape == (2, 16, 16, 3)
    assert torch.equal(copy.deepcopy(drawings).stills, drawings.stills)
    assert copy.deepcopy(drawings).seeds == drawings.seeds
    assert type(drawings.tensor) is torch.Tensor
    assert torch.equal(drawings.tensor, drawings)
    assert [(image.size, image.mode) for image in drawings.images] == [((16, 16), "RGB")] * 2
    assert np.array_equal(np.stack(drawings.images), drawings.stills.numpy())
    assert repr(drawings) == "<2 pictures, 16 x 16 pixels: animal/plain, animal/round>"
    assert repr(models["codes"].generate("food")) == "<1 picture, 16 x 16 pixels: food/plain>"
    assert torch.equal(models["codes"].generate([1], seeds=drawings.seeds[1:]), drawings[1:])
    file = io.BytesIO()
    torch.save(drawings, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), drawings)
    assert torch.equal(
        models["codes"].encode(drawings).values, models["codes"].encode(drawings.stills).values
    )
    assert len(arzoo.save(drawings, tmp_path / "a")) == len(arzoo.save(drawings.images, tmp_path / "b")) == 2


def test_clips_are_lists_of_pictures_and_animations(tmp_path):
    clips = Drawings.of(torch.zeros(2, 4, 8, 8, 3, dtype=torch.uint8), torch.tensor([4, 4]))
    with pytest.raises(ArzooError, match=r"clips of 4 frames, not still pictures.*drawings\[:, t\]"):
        clips.stills  # noqa: B018
    clips.tensor[:, 1:] += torch.arange(1, 4, dtype=torch.uint8)[:, None, None, None] * 50
    clips.fps = 5.0
    assert [[np.asarray(frame).max() for frame in clip] for clip in clips.images] == [[0, 50, 100, 150]] * 2
    assert repr(clips) == "<2 clips of 4 frames, 8 x 8 pixels>"
    first, second = clips.save(tmp_path / "out")
    assert (first.name, second.name) == ("0000.webp", "0001.webp")
    with Image.open(first) as animation:
        animation.seek(2)
        assert np.asarray(animation.convert("RGB")).min() == 100
        assert (animation.n_frames, animation.info["duration"]) == (4, 200)
    with pytest.raises(ArzooError, match=r"0000.webp exists.*overwrite=True"):
        arzoo.save(clips, tmp_path / "out")
    assert len(arzoo.save(clips, tmp_path / "out", overwrite=True)) == 2
    with pytest.raises(ArzooError, match=r"pictures must be \(n, H, W, 3\) uint8"):
        arzoo.save(clips.tensor.float(), tmp_path)


def test_a_model_of_clips_draws_clips():
    tokenizer = PatchesConfig(frames=3, side=2).build()
    sizes = {"width": 32, "depth": 1, "heads": 2, "head_options": {"hidden": 32, "depth": 1, "head_steps": 4}}
    model = Generator.create(
        "raster_tiny", tokenizer, "raster", classes=("a", "b"), tokenizer_name="", tokenizer_hash="",
        control=Control(max_timestep=950), **sizes,
    )  # fmt: skip
    clips = model.generate([0, 1], seed=1)
    assert clips.shape == (2, 3, 8, 8, 3)
    with pytest.raises(ArzooError, match="clips of 3 frames"):
        clips.stills  # noqa: B018
    frames = [list(map(np.array, clip)) for clip in clips.images]
    one, several = model.encode(clips[1:]).values, model.encode(clips).values
    for same in (
        clips.images[1],
        frames[1],
        list(clips[1]),
        [clips[1]],
        [clips.tensor[1:].numpy()],
        [frames[1]],
    ):
        assert torch.equal(model.encode(same).values, one), "a list of pictures is a clip"
    for same in (clips.images, frames, list(clips), [clips[:1], clips[1:]]):
        assert torch.equal(model.encode(same).values, several)
    with pytest.raises(ArzooError, match="one size and number of frames"):
        model.encode([clips[0], clips[0, 0]])
    mask = torch.ones(3, 8, 8, dtype=torch.bool)
    mask[0] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        continued = model.generate(0, init=clips.images[0], mask=mask)
        assert torch.equal(continued, model.generate(0, init=clips.images[0][0], mask=mask)), (
            "the kept frame is enough"
        )
    assert (continued[0, 0].int() - clips[0, 0].int()).abs().max() <= 1
    everywhere = mask[1].clone()
    everywhere[4:, 4:] = False
    with pytest.raises(ArzooError, match="3 frames are to be kept, and the clip to complete has 1"):
        model.generate(0, init=clips.images[0][0], mask=everywhere)
    tokens = model.encode(clips)
    assert (tokens.values.shape, tokens.layout) == ((2, 12, 48), Grid(3, 2, 2))
    assert torch.equal(model.decode(tokens), clips)
    with pytest.raises(ArzooError, match=r"draws Grid\(t=3, h=2, w=2\), and clips of 1 frame have Grid\(t=1"):
        model.encode(clips[:, :1])


def test_values_alone_are_no_tokens(models):
    model, values = models["codes"], torch.zeros(1, 16, dtype=torch.long)
    for call in (
        lambda: model.decode(values),
        lambda: model.tokenizer.decode(values),
        lambda: model.generate([0], given=values),
    ):
        with pytest.raises(ArzooError, match=r"must be a Tokens object, got Tensor.*Tokens.of\(values\)"):
            call()
    assert model.decode(Tokens.of(values)).shape == (1, 1, 16, 16, 3)


def test_exact_decoding_is_that_of_single_pictures(model, monkeypatch):
    canvas = model.encode(torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8))
    sizes, decode = [], model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda t: (sizes.append(len(t.values)), decode(t))[1])
    usual, exact, together = (
        model.decode(canvas),
        model.decode(canvas, exact=True),
        model.decode(canvas, exact=False),
    )
    assert sizes == [1, 1, 1, 1, 1, 1, 3], "one by one on a CPU"
    assert torch.equal(usual, exact)
    assert (exact.int() - together.int()).abs().max() <= 1
    *_, last = model.stream(classes=[0, 1], seed=2)
    sizes.clear()
    shown = last.preview(exact=False)
    assert sizes == [2]
    assert (last.preview().int() - shown.int()).abs().max() <= 1


def test_tokens_of_the_tokenizer_are_decoded_too(model):
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        tokens = model.tokenizer.encode(to_model(images[:, None]))
    assert torch.equal(model.decode(tokens), model.decode(model.encode(images)))


def test_a_canvas_that_is_given_is_not_touched(model):
    given = tokens_of(model, 2, 5)
    before = given.copy()
    first = [step.preview() for step in model.stream(classes=[0, 1], seed=3, given=given)][-1]
    for name in ("values", "known", "given", "length"):
        assert torch.equal(getattr(given, name), getattr(before, name)), name
    again = [step.preview() for step in model.stream(classes=[0, 1], seed=3, given=given)][-1]
    assert torch.equal(first, again)


def test_a_whole_canvas_is_not_touched_either(model):
    canvas = model.encode(torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8))
    canvas.known[:, 3:], canvas.given[:, 3:] = False, False
    before = canvas.copy()
    list(model.stream(classes=[0], given=canvas))
    assert torch.equal(canvas.known, before.known)
    assert torch.equal(canvas.values, before.values)


def test_a_picture_that_is_given_whole_is_decoded_as_it_is(model, monkeypatch):
    given = tokens_of(model, 2, 16)
    monkeypatch.setattr(model.heads[0], "sample", None)  # nothing is drawn
    drawings = model.generate([0, 1], given=given)
    assert torch.equal(drawings, model.decode(given))
    *_, last = model.stream(classes=[0, 1], given=given)
    assert last.proposal is None
    assert torch.equal(last.preview(), drawings)


def test_whole_and_partial_pictures_together(model):
    given = tokens_of(model, 2, 16)
    given.known[1, 8:], given.given[1, 8:] = False, False
    drawings = model.generate([0, 1], given=given)
    assert torch.equal(drawings[0], model.decode(given)[0])
    assert not torch.equal(drawings[1], model.decode(given)[1])


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_rows_of_given_tokens_are_counted(model, rows):
    given = tokens_of(model, rows, 4)
    for draw in (
        lambda: model.generate([0, 1, 2], given=given),
        lambda: next(model.stream(classes=[0, 1, 2], given=given)),
    ):
        with pytest.raises(
            ArzooError, match=rf"3 pictures are requested but there are {rows} rows of given tokens"
        ):
            draw()
    everywhere = given.select(torch.zeros(3, dtype=torch.long))
    assert len(model.generate([0, 1, 2], given=everywhere)) == 3


def test_tokens_of_another_canvas_are_refused(model):
    spec = model.tokenizer.spec
    values, known = spec.empty(1).values, torch.ones(1, 16, dtype=torch.bool)
    other = values.float() if spec.discrete else values.long()
    for wrong in (
        values[:, :9],
        other,
        values[..., None],
        values[..., :1] if not spec.discrete else values[:, :1],
    ):
        with pytest.raises(ArzooError, match=r"given tokens must be (codes|vectors) \(B, 16"):
            model.generate([0], given=Tokens.of(wrong, known[:, : wrong.shape[1]]))
    for wrong in (-1, 16) if spec.discrete else (float("nan"), float("inf")):
        given = Tokens.of(torch.full_like(values, wrong), known)
        with pytest.raises(ArzooError, match=r"given (codes must be 0 to 15|vectors must be finite)"):
            model.generate([0], given=given)
        given.given[:], given.known[:] = False, False
        assert len(model.generate([0], given=given)) == 1, "what is not given may be anything"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"batch": -1}, "at least 1, got -1"),
        ({"seeds": []}, "2 classes or prompts but 0 seeds; give one seed per picture"),
        ({"seeds": [1]}, "2 classes or prompts but 1 seeds"),
        ({"seeds": [1, 2, 3]}, "2 classes or prompts but 3 seeds"),
    ],
)
def test_counts_are_compared_at_the_door(model, request_, words):
    with pytest.raises(ArzooError, match=words):
        model.generate([0, 1], **request_)


def test_an_empty_condition_draws_nothing(model):
    with pytest.raises(ArzooError, match="no picture is requested"):
        next(model.stream(Cond(0, label=torch.zeros(0, dtype=torch.long)), []))


def test_knobs_without_effect_are_said(models):
    model = models["codes"]
    for control, names in (
        (Control(solver="ddim", head_steps=5), "head_steps, solver"),
        (Control(spacing="stride"), "spacing"),
    ):
        with pytest.warns(NoEffect, match=f"^{names}: no effect with head categorical"):
            model.generate([0], control=control)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffect)
        model.generate([0], control=Control(temperature=0.9, top_k=3, guidance=2.0))
    with pytest.warns(NoEffect, match="^top_k: no effect with head diffusion_mlp"):
        models["mar"].generate([0], control=Control(top_k=3))
