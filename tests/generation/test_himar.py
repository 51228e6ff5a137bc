"""Hi-MAR as a generator: given pivots and tokens, previews, a knob per stage, and what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch
from command import CLASSES, command
from two_stages import two_stage_generator

from arzoo.base.errors import ArzooError
from arzoo.base.finite import NotANumber
from arzoo.cli import knobs
from arzoo.core.control import Control, Progress
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.models.himar.network import HiMARConfig
from arzoo.samplers import schedules
from arzoo.samplers.schedules import control_from_data, control_to_data

PIVOTS = 4
"""2 x 2 pivots under 4 x 4 tokens."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Generator:
    return two_stage_generator(tmp_path_factory.mktemp("himar") / "tok")


def canvas(model: Generator, given: torch.Tensor, seed: int = 0) -> Tokens:
    """Random tokens on the whole canvas, of which some are given."""
    size, channels = model.plan().layout.size, model.spec.channels
    values = torch.randn(1, size, channels, generator=torch.Generator().manual_seed(seed))
    return Tokens.of(values, given[None])


def drawn(model: Generator, given: Tokens, **more: object) -> torch.Tensor:
    *_, last = model.stream(classes=[1], seeds=[5], given=given, **more)
    return last.run.tokens.values


def test_it_is_saved_with_both_heads(model, tmp_path):
    model.save(tmp_path / "gen")
    again = Generator.load(tmp_path / "gen", tokenizer=model.tokenizer_name)
    assert [type(head).__name__ for head in again.heads] == ["DiffusionMLP", "DiT"]
    assert again.plan_options == {"steps": [2, 3]}
    one, two = (m.generate(classes=[0, 2], seed=1).tensor.int() for m in (model, again))
    assert (one - two).abs().max() <= 8, "weights are stored as float16"


def test_pictures_do_not_depend_on_the_batch(model):
    one, two = (model.generate(classes=[0, 1, 2], seed=3, batch=size).tensor.int() for size in (1, 3))
    assert (one - two).abs().max() <= 1


def test_given_pivots_stay_and_decide_the_rest(model):
    given = torch.arange(20) < PIVOTS
    first, second = (canvas(model, given, seed) for seed in (0, 1))
    values = drawn(model, first)
    assert torch.equal(values[:, :PIVOTS], first.values[:, :PIVOTS])
    other = drawn(model, second)
    assert not torch.allclose(values[:, PIVOTS:], other[:, PIVOTS:]), "the dense tokens do not see the pivots"
    assert torch.equal(values, drawn(model, first))


def test_outpainting_keeps_tokens_and_draws_around_them(model):
    given = torch.zeros(20, dtype=torch.bool)
    given[PIVOTS:] = (torch.arange(16) % 4) < 2  # the left half of the dense grid
    first = canvas(model, given)
    values = drawn(model, first)
    assert torch.equal(values[:, given], first.values[:, given])
    assert values.isfinite().all()
    other = drawn(model, canvas(model, given, seed=1))
    assert not torch.allclose(values[:, ~given], other[:, ~given])


def test_tokens_of_the_tokenizer_give_the_pivots_they_cover(model):
    values = torch.randn(1, 16, model.spec.channels, generator=torch.Generator().manual_seed(2))
    left = (torch.arange(16) % 4)[None] < 2
    tokens = Tokens.of(values, left)
    *_, last = model.stream(classes=[1], seeds=[5], given=tokens)
    pivots = last.run.tokens.values[0, :PIVOTS]
    mean = values[0].view(2, 2, 2, 2, -1).mean((1, 3)).flatten(0, 1)
    torch.testing.assert_close(pivots[[0, 2]], mean[[0, 2]])
    assert last.run.tokens.given[0, :PIVOTS].tolist() == [True, False, True, False]


def test_previews_show_pivots_before_dense_tokens(model):
    pictures = [step.preview().tensor for step in model.stream(classes=[1], seeds=[5])]
    assert model.plan().stage == (0, 0, 1, 1, 1)
    assert not (pictures[1] == 128).all(-1).any(), "all pivots are drawn"
    blocks = pictures[0][0, 0].view(2, 8, 2, 8, 3)
    grey = [(blocks[i, :, j] == 128).all().item() for i in range(2) for j in range(2)]
    assert 0 < sum(grey) < 4, "some pivots are drawn, others are not"


@pytest.mark.parametrize("text", ["2.7,2.5", "1,1:2.5"])
def test_a_knob_per_stage_is_parsed_stored_and_acts(model, text):
    scale = knobs.guidance(text, "tokens")
    ends = [scale(Progress(1, 2, 3, 4, 4, stage)) for stage in (0, 1)]
    assert ends == ([2.7, 2.5] if text == "2.7,2.5" else [1.0, 1 + 1.5 * 3 / 4])
    control = Control(
        guidance=scale, head_steps=schedules.by_stage(3, schedules.anneal(5, 2)), max_timestep=950
    )
    assert control_from_data(control_to_data(control)) == control
    steps = list(model.stream(classes=[1], seeds=[5], control=control))
    assert [step.proposal.settings.head_steps for step in steps] == [3, 3, 5, 3, 2]


@pytest.mark.parametrize("text", ["2.7,", "1,2,3", "x,2"])
def test_values_of_stages_that_cannot_be_read(text):
    with pytest.raises(ArzooError, match=r"--guidance"):
        knobs.guidance(text, None)


def test_a_value_for_one_stage_only_is_refused(model):
    stored = {"guidance": {"schedule": "by_stage", "first": 2.7}}
    with pytest.raises(ArzooError, match="schedule 'by_stage' needs second"):
        control_from_data(stored)
    with pytest.raises(ArzooError, match=r"guidance None, from its schedule .* must be from -10000"):
        model.generate(classes=[0], guidance=schedules.by_stage(2.7, None))
    with pytest.raises(
        ArzooError, match=r"\[2\.7, 2\.5\] must be .*guidance=arzoo\.samplers\.schedules\.by_stage"
    ):
        model.generate(classes=[0], guidance=[2.7, 2.5])


def test_values_of_stages_need_a_plan_with_stages(model):
    with pytest.raises(ArzooError, match="has values for 2 stages, and the plan has one more"):
        schedules.by_stage(1, 2)(Progress(0, 1, 0, 1, 1, 2))
    masked = Generator.create(
        "mar_tiny", model.tokenizer, "masked", classes=CLASSES, tokenizer_name="", tokenizer_hash="",
        plan_options={"steps": 2}, width=32, depth=1,
    )  # fmt: skip
    with pytest.raises(
        ArzooError, match="guidance has a value for each of two stages, and plan 'masked' has 1"
    ):
        masked.generate(classes=[0], guidance=schedules.by_stage(2.0, 3.0))


def test_a_stage_without_head_or_control_is_refused(model):
    with pytest.raises(ArzooError, match="plan 'pivots' has 2 stages, 1 heads are given"):
        model.with_weights(model.backbone, model.heads[:1]).plan()
    with pytest.raises(ArzooError, match="the plan has 2 stages, 1 controls and 2 heads"):
        list(model.stream(classes=[0], control=[Control()]))  # type: ignore[arg-type]
    with pytest.raises(ArzooError, match=r"plan 'masked' has 1 stage, backbone himar draws 2"):
        model.with_plan("masked", steps=3)


def test_sizes_that_do_not_fit_are_refused(model):
    with pytest.raises(ArzooError, match=r"levels \[8, 4\] must rise"):
        model.with_plan(levels=[8, 4])
    with pytest.raises(ArzooError, match=r"coarse one of pivots and a larger dense one, .* got \[8, 4\]"):
        HiMARConfig(levels=(8, 4))
    with pytest.raises(ArzooError, match="one order and one number of steps per level"):
        model.with_plan(steps=[2])
    assert model.with_plan(steps=[4, 1]).plan().stage == (0, 0, 0, 0, 1)


def test_a_head_that_overflows_is_named(model):
    heads = [model.heads[0], model.heads[1].config.build()]
    for parameter in heads[1].parameters():
        torch.nn.init.constant_(parameter, 1e30)
    broken = model.with_weights(model.backbone, heads)
    with pytest.warns(
        NotANumber, match=r"part 'head1' \(head dit.*\) drew 16 of 16 tokens that are not finite"
    ):
        broken.generate(classes=[0], seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(classes=[0], seed=0)


def test_the_command_line_takes_a_value_per_stage(model, capsys, tmp_path):
    model.save(tmp_path / "gen")
    knobs_typed = ["--head-steps", "4,5:2", "--guidance", "2,3", "--steps", 2]
    options = [
        *knobs_typed,
        "--tokenizer",
        model.tokenizer_name,
        "--num",
        1,
        "--json",
        "--out",
        tmp_path / "a",
    ]
    done = command(capsys, "generate", tmp_path / "gen", *options)
    assert done.status == 0, done.err
    assert done.json["head_calls_per_picture"] == 2 * 4 + 5 + 2
