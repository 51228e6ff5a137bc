"""Training on clips: tokenizers and generators learn, look at all frames alike, and continue bit for bit."""

import json
from typing import Any

import pytest
import torch
from command import command, failing
from PIL import Image
from squares import FRAMES, moving_squares
from toy import same, whole_and_in_parts

import arzoo.data
from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.clips import fold_frames
from arzoo.core.draws import Draws
from arzoo.data.augmentation import Augment
from arzoo.data.clip_files import read_clip
from arzoo.data.transforms import augment, to_model
from arzoo.generation.generator import Generator
from arzoo.train.build import run
from arzoo.train.clips import channels_last, in_channel_order, one_frame
from arzoo.train.noise import SampleNoise
from arzoo.train.recipe import load_recipe
from arzoo.train.sizing import fitted
from arzoo.viz.clips import write_clip


@pytest.fixture(scope="module", autouse=True)
def squares():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._entries["dataset"], "squares", moving_squares)
        yield


PACE = {"batch": 4, "log_every": 1, "preview_every": 100, "save_every": 4}
MODEL = {"name": "vq_4_micro", "image_size": 32, "frames": FRAMES}


def tokenizer_recipe(model=MODEL, steps=8, **changes):
    loss = {"perceptual": 0.1, "adversarial": 0.1, "adversarial_start": 3, "discriminator_width": 8}
    whole: dict[str, Any] = {
        "data": "squares", "limit": 0, "model": model, "run": {**PACE, "steps": steps}, "optim": {"lr": 2e-3},
        "loss": {"l1": 1.0, **loss, "discriminator_layers": 2},
    }  # fmt: skip
    return load_recipe("smoke", whole | changes)


def generator_recipe(tokenizer, plan, steps=8, **model):
    whole: dict[str, Any] = {
        "data": "squares", "tokenizer": str(tokenizer), "plan": plan, "variants": 1,
        "model": {"name": "nar_tiny", "width": 32, "depth": 2, **model},
        "run": {**PACE, "steps": steps, "threads": 0}, "optim": {"lr": 3e-3, "warmup": 2},
    }  # fmt: skip
    return load_recipe("nar_emoji64", whole)


@pytest.fixture(scope="module")
def tokenizer_runs(tmp_path_factory):
    """A tokenizer that was trained in one go, and one that was stopped and continued."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return folder, whole_and_in_parts(lambda out, end: run(tokenizer_recipe(), out, end), folder, 5, 8)


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def test_a_tokenizer_of_clips_learns_and_continues_bit_for_bit(tokenizer_runs):
    folder, states = tokenizer_runs
    assert same(*states)
    lines = log(folder / "whole")
    assert lines[-1]["l1"] < 0.8 * lines[0]["l1"]
    assert "discriminator_loss" in lines[-1]
    assert 0 < lines[-1]["validation_psnr"] <= 100
    sheet = Image.open(folder / "whole" / "previews" / "reconstructions_0000008.png")
    assert sheet.width == FRAMES * 98 + 2, "a row is a clip, enlarged"


def test_steps_follow_the_number_of_clips(tokenizer_runs, tmp_path, monkeypatch, capsys):
    """Of clips as the tokenizer and the recipe cut them, which are decoded once."""
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    pace = {**PACE, "steps": 0, "visits": 100}
    assert fitted(tokenizer_recipe(run=pace)).run.steps == 1000
    generator = generator_recipe(tokenizer_runs[0] / "whole" / "checkpoint", "next_neighbor")
    assert fitted(generator.replace(run={"steps": 0, "visits": 50})).run.steps == 500
    for frame in range(12):
        path = tmp_path / "own" / "a" / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (20 * frame, 0, 0)).save(path)
    capsys.readouterr()
    own = tokenizer_recipe(run=pace, data=str(tmp_path / "own"), stride=2)
    assert fitted(own).run.steps == 100
    assert capsys.readouterr().err == "chosen for 4 clips: run.steps=100\n"
    monkeypatch.setattr("arzoo.data.clip_folder._decoded", None)
    assert len(arzoo.data.load(own.data, 32, FRAMES, None, 2)) == 4
    unsized = own.replace(model={"image_size": 0})
    monkeypatch.undo()
    assert fitted(unsized).model.settings["image_size"] == 64


SMALL = {"width": 32, "depth": 1, "heads": 2}
LARP = {"patch_frames": 1, "grid": [5, 4, 4], "vocab": 64, "encoder": SMALL, "decoder": SMALL}


@pytest.mark.parametrize(
    "model",
    [{"name": "omnitok_micro"}, {"name": "larp_tiny", "frames": FRAMES, **LARP}],
    ids=["omnitok", "larp"],
)
def test_codes_of_clips_are_replaced(tmp_path, model):
    model = {"image_size": 32, **model}
    recipe = tokenizer_recipe(model, codebook={"seed_at": 2, "restart_every": 2})
    assert same(*whole_and_in_parts(lambda out, end: run(recipe, out, end), tmp_path, 5, 8))
    lines = log(tmp_path / "whole")
    assert lines[2]["codes_replaced"] == 64, "all of them at the first seeding"
    assert lines[-1]["l1"] < lines[0]["l1"]
    assert lines[-1]["validation_perplexity"] > 1


@pytest.mark.parametrize("plan", ["next_neighbor", {"name": "next_block", "size": 8}])
def test_a_generator_of_clips_learns_and_continues_bit_for_bit(tokenizer_runs, tmp_path, monkeypatch, plan):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    recipe = generator_recipe(tokenizer_runs[0] / "whole" / "checkpoint", plan)
    states = whole_and_in_parts(lambda out, end: run(recipe, out, end), tmp_path, 5, 8)
    assert same(*states)
    lines = log(tmp_path / "whole")
    assert lines[-1]["loss"] < lines[0]["loss"]
    tokenizer = tokenizer_runs[0] / "whole" / "checkpoint"
    model = Generator.load(tmp_path / "whole" / "checkpoint", tokenizer=tokenizer)
    assert model.plan().layout.shape == (FRAMES, 8, 8)
    assert model.fps == 12, "by default, its clips are as fast as those it was trained on"
    sheet = Image.open(tmp_path / "whole" / "previews" / "samples_0000008.png")
    assert sheet.width == FRAMES * 98 + 2


def test_blocks_that_do_not_divide_the_grid_are_refused(capsys, tmp_path):
    result = command(capsys, "train", "nbp_atari", "plan.size=7", "--out", tmp_path / "run")
    failing(result, "block size 7 must divide the 320 positions", "a row has 8, a frame 64", status=2)


def test_clips_of_another_number_of_frames_are_refused(tmp_path):
    with pytest.raises(ArzooError, match="squares has clips of 5 frames, pictures are needed"):
        run(tokenizer_recipe(model=MODEL | {"frames": 1}), tmp_path)


def test_all_frames_of_a_clip_are_augmented_alike():
    clips, uniform = moving_squares().images[:6], torch.rand(6, 9, generator=torch.Generator().manual_seed(1))
    policy, mirrorable = Augment(shift=0.2, scale=(0.5, 1.5), resize=1.0), torch.arange(6) % 2 == 0
    together = augment(clips, mirrorable, uniform, policy)
    assert together.shape == (6, 3, FRAMES, 32, 32)
    for t in range(FRAMES):
        assert torch.equal(together[:, :, t], augment(clips[:, t], mirrorable, uniform, policy))


def test_the_random_frame_of_a_clip_follows_from_its_sample():
    x = torch.arange(FRAMES).float().expand(8, 3, 4, 4, FRAMES).movedim(-1, 2)

    def frames(samples):
        torch.manual_seed(0)
        with SampleNoise(Draws(list(samples), 0)):
            real, rebuilt = one_frame(x[: len(samples)], -x[: len(samples)])
        assert torch.equal(real, -rebuilt)
        return real[:, 0, 0, 0].tolist()

    assert frames(range(8))[3:7] == frames(range(3, 7))
    assert len(set(frames(range(8)))) > 1
    pictures = x[:, :, 0]
    assert one_frame(pictures, pictures)[0] is pictures


def test_frames_of_clips_lie_in_the_order_of_channels():
    frames = fold_frames(in_channel_order(torch.rand(2, 3, FRAMES, 8, 8)))
    assert frames.is_contiguous(memory_format=torch.channels_last)
    both = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.Conv3d(3, 3, 3))
    weights = [layer.weight for layer in channels_last(both)]
    assert weights[0].is_contiguous(memory_format=torch.channels_last)
    assert weights[1].is_contiguous(memory_format=torch.channels_last_3d)


def test_validation_looks_at_all_frames_and_at_each_batch_once(tokenizer_runs):
    objective = tokenizer_recipe().build()
    model = open_checkpoint(tokenizer_runs[0] / "whole" / "checkpoint").load("tokenizer").eval()
    figures = objective.validate(model)
    x = to_model(objective.validation.images)
    with torch.inference_mode():
        y, quantized = model(x)
    frames, rebuilt = fold_frames(x), fold_frames(y).clamp(-1, 1)
    psnr = -10 * ((frames - rebuilt) / 2).square().mean((1, 2, 3)).log10()
    assert figures["validation_psnr"] == pytest.approx(float(psnr.mean()), abs=1e-3)
    assert figures["validation_perceptual"] == pytest.approx(
        float(objective.distance(rebuilt, frames).mean()), rel=1e-3
    )
    assert figures["validation_perplexity"] == pytest.approx(
        quantized.figures([quantized])["perplexity"], rel=1e-3
    )


def test_own_clips_are_trained_on_and_drawn_as_the_docs_say(tmp_path, capsys, monkeypatch):
    """The three commands of the docs, with small networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    squares = moving_squares()
    for i, clip in enumerate(squares.images[:12]):
        path = tmp_path / "my_clips" / squares.classes[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, clip)
    pace = ("--run.steps", 2, "--run.batch", 2, "--run.precision", "fp32")
    data = ("--data", "my_clips", "--fps", 8)
    tiny = ("--model", "omnitok_micro", "model.image_size=32")
    out = command(capsys, "train", "clip_atari", *data, "--out", "runs/tok", *tiny, *pace)
    assert out.status == 0, out.err
    small = ("model.width=32", "model.depth=1")
    out = command(
        capsys, "train", "nar_atari", *data, "--tokenizer", "runs/tok", "--out", "runs/nar", *small, *pace
    )
    assert out.status == 0, out.err
    out = command(capsys, "generate", "runs/nar", "--class", "down", "--num", 2, "--out", "drawn")
    assert out.status == 0, out.err
    first, _ = sorted((tmp_path / "drawn").rglob("*.mp4"))
    assert read_clip(first, FRAMES, 32).shape == (FRAMES, 32, 32, 3)


TINY = {"name": "omnitok_micro", "image_size": 32}


@pytest.fixture(scope="module")
def small_shipped_tokenizer(tmp_path_factory):
    """The recipe of the shipped tokenizer of clips, with its small sibling."""
    folder = tmp_path_factory.mktemp("shipped")
    own = {"data": "squares", "model": TINY, "run": {"steps": 4, "batch": 4, "save_every": 2}}
    recipe = load_recipe("clip_atari", own)
    return folder, whole_and_in_parts(lambda out, end: run(recipe, out, end), folder, 3, 4)


def test_the_shipped_tokenizer_of_clips_continues_bit_for_bit(small_shipped_tokenizer):
    folder, states = small_shipped_tokenizer
    assert same(*states)
    assert open_checkpoint(folder / "whole" / "checkpoint").load("tokenizer").spec.first_alone


@pytest.mark.parametrize(("name", "options"), [("nar_atari", {}), ("nbp_atari", {"size": 8, "hybrid": True})])
def test_the_shipped_generators_of_clips_continue_bit_for_bit(
    small_shipped_tokenizer, tmp_path, monkeypatch, name, options
):
    """Their recipes, with tiny networks over its codes."""
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    tokenizer = small_shipped_tokenizer[0] / "whole" / "checkpoint"
    own = {"data": "squares", "tokenizer": str(tokenizer), "run": {"steps": 4, "batch": 4, "save_every": 2}}
    recipe = load_recipe(name, own, ["model.width=32", "model.depth=1", "model.heads=2"])
    states = whole_and_in_parts(lambda out, end: run(recipe, out, end), tmp_path, 3, 4)
    assert same(*states)
    model = Generator.load(tmp_path / "whole" / "checkpoint", tokenizer=tokenizer)
    assert model.plan_options == options
