"""A masked generator of continuous tokens: creating, saving, loading, drawing, and the options of its head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import CLASSES, command, failing, picture, tiny_tokenizer
from continuous import Patches, PatchesConfig, patches, tiny_masked
from PIL import Image

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.knobs import CLIP, control, guidance
from arzoo.cli.pictures import read_settings
from arzoo.core.control import Control, Progress
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.samplers.schedules import anneal

KNOBS = dict.fromkeys(
    ("guidance", "guidance_interval", "temperature", "top_k", "top_p", "greedy", "head_steps", "head_solver",
     "max_timestep", "head_window", "more_smooth")
) | {"guidance_schedule": "linear", "head_schedule": "linear"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("models")
    return tiny_masked(made / "gen", patches(made / "tok"))


@pytest.fixture(scope="module")
def model(folder) -> Generator:
    return Generator.load(folder)


def drawn(model: Generator, seeds: list[int], **more: object) -> torch.Tensor:
    """Pictures as integers that can be subtracted."""
    return model.generate([s % 3 for s in seeds], seeds=seeds, **more).stills.int()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether pictures agree up to the rounding of products over batches of different sizes."""
    return int((a - b).abs().max()) <= 1


def test_every_sample_has_an_order_of_its_own_from_its_seed(model):
    ranks = model.plan([4, 5, 6]).rank
    assert ranks.shape == (3, 16)
    assert len({tuple(row.tolist()) for row in ranks}) == 3
    assert torch.equal(model.plan([5]).rank[0], ranks[1])
    assert [len(group[0]) for group in model.plan().groups] == [1, 3, 3, 5, 4]


def test_pictures_do_not_depend_on_the_batch(model):
    together = drawn(model, [4, 5, 6, 7, 8])
    assert together.float().std() > 20, "pictures that are all alike would prove nothing"
    assert not same(together[:1], together[1:2])
    assert same(drawn(model, [8, 7, 6, 5, 4], batch=2).flip(0), together)
    assert same(drawn(model, [6]), together[2:3])


def test_given_tokens_stay_whatever_the_others_have(model):
    values = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(3, 16, dtype=torch.bool)
    known[0, :4], known[1, 3:9], known[2, :4] = True, True, True
    given, calls = Tokens.of(values, known), []
    together = drawn(model, [4, 5, 6], given=given, progress=lambda done, todo: calls.append((done, todo)))
    want = model.decode(Tokens.of(values)).stills.int()
    cells = known.view(3, 4, 4).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(together[cells], want[cells])
    index = torch.tensor([1])
    assert same(drawn(model, [5], given=given.select(index)), together[1:2])
    assert calls[-1][0] == calls[-1][1] == len(calls), (
        "two batches, of pictures with equally many given tokens"
    )


def test_head_steps_change_pictures_and_their_cost(model):
    fine, coarse = (Control(head_steps=n, max_timestep=950) for n in (40, 3))
    assert not same(drawn(model, [4], control=fine), drawn(model, [4], control=coarse))
    calls = []
    head, right = model.heads[0], model.heads[0].predict
    head.predict = lambda *arguments: (calls.append(1), right(*arguments))[1]
    try:
        drawn(model, [4, 5], control=Control(head_steps=anneal(9, 2), max_timestep=950))
        assert len(calls) == sum([9, 7, 5, 3, 2])
        drawn(model, [4])
        assert len(calls) == 26 + 5 * 6, "the head's own number"
    finally:
        del head.predict


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_steps": 1}, "at least 2 head steps"),
        ({"head_steps": 1, "solver": "ddim"}, "at least 2 head steps"),
        ({"head_steps": 1001}, "0 to 1000"),
        ({"head_steps": lambda p: -p.step or 2}, "-1, from its schedule at step 1 of .*, must be"),
        ({"max_timestep": 1000}, "1 to 999"),
        ({"solver": "dmp_solver"}, "Did you mean 'dpm_solver"),
        ({"spacing": "strid"}, "Did you mean 'stride'"),
    ],
)
def test_settings_that_the_head_cannot_draw_with_are_refused_before_the_first_step(model, changes, words):
    with pytest.raises(ArzooError, match=words):
        next(model.stream(*begin(), Control(**changes)))


def begin():
    from arzoo.core.condition import Cond

    return Cond(1, label=torch.tensor([0])), [3]


def test_annealing_to_zero_is_refused():
    with pytest.raises(ArzooError, match="annealed to 0: got 50 to 0"):
        anneal(50, 0)
    with pytest.raises(UnknownName, match="Did you mean 'two-stage'"):
        anneal(50, 5, "two_stage")


def test_creating_from_names(folder):
    tokenizer = open_checkpoint(folder.parent / "tok").load("tokenizer")
    assert isinstance(tokenizer, Patches)
    more = {"classes": CLASSES, "tokenizer_name": "tok", "tokenizer_hash": ""}
    sizes = {"width": 32, "heads": 2, "depth": 1}
    made = Generator.create(
        "mar_tiny",
        tokenizer,
        "masked",
        plan_options={"steps": 16},
        head="diffusion_mlp_tiny",
        **more,
        **sizes,
    )
    assert (made.backbone.config.channels, made.backbone.config.grid) == (48, (1, 4, 4))
    assert (made.heads[0].config.channels, made.heads[0].config.width) == (48, 32)
    assert (len(made.plan()), made.backbone.config.classes) == (16, 3)
    assert made.generate([0], control=Control(head_steps=2, max_timestep=950)).shape == (1, 1, 16, 16, 3)
    assert len(Generator.create("mar_tiny", tokenizer, "masked", **more, **sizes).plan()) == 4
    with pytest.raises(ArzooError, match="draws codes, the tokenizer's tokens are vectors"):
        Generator.create("mar_tiny", tokenizer, "masked", head="categorical", **more, **sizes)
    with pytest.raises(ArzooError, match="backbone llamagen reads codes"):
        Generator.create("nar_tiny", tokenizer, "next_neighbor", vocab=9, channels=0, **more)
    with pytest.raises(ArzooError, match=r"readout 'shifted'.*backbone mar reads inplace"):
        Generator.create("mar_tiny", tokenizer, "raster", **more, **sizes)
    with pytest.raises(ArzooError, match="Did you mean 'width'"):
        Generator.create("mar_tiny", tokenizer, "masked", **more, wide=3)


def test_a_head_starts_without_an_opinion():
    head = DiffusionMLPConfig(width=8, channels=3, hidden=16, depth=1).build()
    from arzoo.core.contracts import Read

    read = Read(torch.arange(5)[None], torch.randn(2, 5, 1, 8))
    assert not head.predict(read, torch.randn(2, 5, 3), 7).any()


def test_preparing_changes_nothing(model):
    """A prepared Read and a plain one give the same prediction, conditional rows included."""
    step = next(model.stream(*begin(), Control(guidance=2.0, head_steps=2, max_timestep=950)))
    assert step.proposal is not None
    read, head = step.proposal.read, model.heads[0]
    assert read.prepared is not None
    x = torch.randn(2, *step.proposal.group.shape[1:], 48)
    packed = head.predict(read, x, 30.0)  # prepared by the packed network that draws
    read.prepared = None
    plain, read = head.predict(read, x, 30.0), head.prepare(read)
    assert torch.equal(head.predict(read, x, 30.0), plain)
    assert torch.allclose(packed, plain, atol=1e-5)
    assert torch.allclose(head.predict(read.conditional(1), x[:1], 30.0), plain[:1], atol=1e-6)


def run(capsys, folder, out, *options):
    return command(capsys, "generate", folder, "--num", 2, "--out", out, *options, "--json")


def test_head_options_on_the_command_line(capsys, folder, tmp_path):
    annealed = run(capsys, folder, tmp_path / "a", "--head-steps", "9:2", "--head-schedule", "linear")
    assert annealed.status == 0, annealed.err
    assert annealed.json["head_calls_per_picture"] == 26
    assert annealed.json["passes"] == 5
    (path,) = (tmp_path / "a").glob("0001*.png")
    again = command(capsys, "generate", "--like", path, "--out", tmp_path / "b")
    assert again.status == 0, again.err
    (other,) = (tmp_path / "b").glob("000*.png")
    pixels = [np.asarray(Image.open(p)).astype(int) for p in (path, other)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert read_settings(str(other))["head_steps"] == "9:2"
    solver = run(capsys, folder, tmp_path / "c", "--head-steps", "1", "--head-solver", "dpm_solver++")
    assert solver.json["head_calls_per_picture"] == 5
    own = run(capsys, folder, tmp_path / "d", "--guidance", "1:3", "--guidance-schedule", "tokens")
    assert own.json["head_calls_per_picture"] == 5 * 6
    assert "no effect" not in annealed.err + solver.err + own.err


def test_completing_a_picture(capsys, folder, tmp_path):
    source = picture(tmp_path / "photo.png")
    result = run(capsys, folder, tmp_path / "a", "--init", source, "--keep", "left")
    assert result.status == 0, result.err
    assert "not seen" not in result.err, "a masked model looks at what is given"
    (path, *_) = sorted((tmp_path / "a").glob("000*.png"))
    assert np.array_equal(np.asarray(Image.open(path))[:, :8], np.asarray(Image.open(source))[:, :8])


def white(size: tuple[int, int], *box: int) -> Image.Image:
    """A mask that is white in a rectangle (left, top, right, bottom)."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def test_completing_what_is_white_in_a_mask(capsys, folder, tmp_path):
    source = picture(tmp_path / "photo.png", (32, 32))
    white((32, 32), 16, 0, 32, 32).save(tmp_path / "large.png")
    white((16, 16), 8, 0, 16, 16).save(tmp_path / "small.png")
    region = run(capsys, folder, tmp_path / "region", "--init", source, "--keep", "left").json
    for name in ("large", "small"):
        masked = run(capsys, folder, tmp_path / name, "--init", source, "--mask", tmp_path / f"{name}.png")
        assert masked.status == 0, masked.err
        for one, other in zip(region["files"][:-1], masked.json["files"][:-1], strict=True):
            assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))
    again = command(
        capsys, "generate", "--like", masked.json["files"][0], "--out", tmp_path / "again", "--json"
    )
    assert np.array_equal(*(np.asarray(Image.open(each.json["files"][0])) for each in (masked, again)))
    white((16, 16), 4, 0, 16, 16).save(tmp_path / "small.png")
    failing(command(capsys, "generate", "--like", masked.json["files"][0], "--out", tmp_path / "b"), "--mask")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mask", "half.png"], "--init FILE goes with --keep REGION or with --mask FILE"),
        (["--init", "half.png"], "--init FILE goes with"),
        (["--init", "half.png", "--keep", "left", "--mask", "half.png"], "--init FILE goes with"),
        (["--init", "photo.png", "--mask", "black.png"], "the mask leaves the whole picture"),
        (["--init", "photo.png", "--mask", "wide.png"], "the mask is 24 wide and 16 high"),
    ],
)
def test_masks_that_are_refused(capsys, folder, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    picture(Path("photo.png"))
    white((16, 16), 0, 0, 8, 16).save("half.png")
    white((16, 16), 0, 0, 0, 0).save("black.png")
    white((24, 16), 0, 0, 8, 16).save("wide.png")
    failing(run(capsys, folder, tmp_path / "out", *options), words, status=2)
    failing(run(capsys, folder, tmp_path / "out", "--init", "photo.png", "--mask", "none.png"), "no file")


def test_options_without_effect_are_named(capsys, folder, tmp_path):
    assert "--top-k has no effect" in run(capsys, folder, tmp_path / "a", "--top-k", "5").err
    from command import tiny_generator

    codes = tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    result = run(capsys, codes, tmp_path / "b", "--head-steps", "5")
    assert (result.status, "--head-steps has no effect: this model draws codes" in result.err) == (0, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--head-steps", "50:0"], ["--head-steps '50:0'", "1 to 1000"]),
        (["--head-steps", "2.5"], ["whole number"]),
        (["--head-steps", "few"], ["--head-steps 'few'"]),
        (["--head-steps", "1"], ["at least 2 head steps", "dpm_solver"]),
        (["--head-steps", "4:1"], ["at least 2 head steps"]),
        (["--head-solver", "dmp"], ["unknown solver of a diffusion head 'dmp'"]),
        (["--max-timestep", "0"], ["--max-timestep '0'", "off"]),
        (["--max-timestep", "1000"], ["1 to 999"]),
        (["--head-window", "0"], ["--head-window 0", "a whole number from 1 to 1000"]),
        (["--head-window", "4", "--head-solver", "ddim"], ["diffusion_mlp with solver 'ddim' cannot do"]),
    ],
)
def test_bad_options(capsys, folder, tmp_path, options, words):
    failing(run(capsys, folder, tmp_path / "out", *options), *words, status=2)
    assert not (tmp_path / "out").exists()


def test_annealing_clips_timesteps_unless_told_otherwise():
    def made(default=None, **given):
        return control(default or Control(), KNOBS | given)

    assert made(head_steps="20").max_timestep is None
    assert made(head_steps="20:5").max_timestep == CLIP == 950
    assert made(head_steps="20:5", max_timestep="off").max_timestep is None
    assert made(head_steps="20:5", max_timestep="900").max_timestep == 900
    assert made(Control(max_timestep=970), head_steps="20:5").max_timestep == 970
    assert made(Control(max_timestep=970), max_timestep="off").max_timestep is None
    steps = made(head_steps="20:5", head_schedule="two-stage").head_steps
    assert [steps(Progress(k, 4, k, k + 1, 4)) for k in range(4)] == [20, 20, 5, 5]


def test_guidance_over_tokens():
    scale = guidance("1:3", "tokens")
    assert [scale(Progress(k, 4, k, k + 1, 4)) for k in range(4)] == [1.5, 2, 2.5, 2.5]


def test_record_of_a_run(capsys, folder, tmp_path):
    run(capsys, folder, tmp_path / "a", "--head-steps", "3")
    config = json.loads((tmp_path / "a" / "run.json").read_text())["config"]
    assert (config["plan"], config["head_steps"], config["head_solver"]) == ("masked", "3", None)


def test_a_window_of_head_steps_draws_others_and_does_not_claim_calls_that_it_saves(capsys, folder, tmp_path):
    records = []
    for number, window in enumerate(("1", "3")):
        where = tmp_path / str(number)
        run(capsys, folder, where, "--head-steps", "5", "--max-timestep", "900", "--head-window", window)
        records.append(json.loads((where / "run.json").read_text()))
        assert records[-1]["config"]["head_window"] == int(window)
    assert [("head_calls_per_picture" in str(record)) for record in records] == [True, False]


def test_the_tokenizer_of_these_tests_is_exact():
    tokenizer = PatchesConfig().build()
    x = torch.randn(2, 3, 2, 16, 16)
    assert torch.allclose(tokenizer.decode(tokenizer.encode(x)), x)
