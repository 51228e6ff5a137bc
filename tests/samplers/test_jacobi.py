"""Jacobi iteration draws the tokens of the plain loop, in fewer network calls; its wrong twins do not."""

from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch
from contracts.cases import LINE, SEEDS, SQUARE, case, cases, orders
from contracts.networks import transformer
from speculations import scattered

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate, proposal_of, start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.plans.shifted import next_neighbor, parallel, raster, zipar
from arzoo.samplers.speculative import base
from arzoo.samplers.speculative import jacobi as module
from arzoo.samplers.speculative.jacobi import Jacobi
from arzoo.samplers.stopping import stop_rule

CASES = cases()
CODES = [name for name, one in CASES.items() if one.model.backbone.windowed and one.spec.discrete]


def begin(one, tokens=None, seeds=SEEDS, draws=None, **options):
    run = one.begin(tokens, seeds, **options)
    run.draws = draws or Draws(seeds, gumbel=True)
    return run


def finish(run, steps):
    """The canvas after all steps, and their number."""
    return run.tokens, len(list(steps))


def plain(one, stop=None, **options):
    run = begin(one, **options)
    return finish(run, generate(one.model, run, stop))


def ahead(one, window, stop=None, **options):
    run = begin(one, **options)
    return finish(run, Jacobi(window).draw(one.model, run, stop))


def calls(one, draw):
    """Number of passes of the trunk, of which the first is over the condition."""
    with patch.object(one.model.backbone, "trunk", wraps=one.model.backbone.trunk) as trunk:
        draw()
    return trunk.call_count


def assert_same(first, second):
    for name in ("values", "known", "length"):
        assert torch.equal(getattr(first[0], name), getattr(second[0], name)), name
    assert first[1] == second[1], "steps"


@pytest.mark.parametrize("name", CODES)
def test_every_window_draws_the_tokens_of_the_plain_loop(name):
    one = CASES[name]  # guidance follows a schedule, and seven of eleven codes are kept
    expected = plain(one)
    several = not one.model.heads[0].enumerates  # codebooks, which take long
    for window in (2, 100) if several else (1, 2, 3, 5, 100):
        assert_same(ahead(one, window), expected)


CONTROLS = {
    "plain": Control(),
    "guided by tokens": Control(guidance=schedules.over_tokens(1, 6)),
    "hot": Control(temperature=3.0, top_p=0.9),
    "cold": Control(temperature=0.1, guidance=2.0),
    "narrow": Control(top_k=schedules.over_steps(2, 9)),
    "greedy": Control(greedy=True),
    "guided in the middle": Control(guidance=schedules.within(3.0, 0.3, 0.7)),
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    "name",
    [
        "transformer raster",
        "transformer next-neighbor",
        "transformer parallel",
        "transformer zipar",
        "rar raster",
    ],
)
def test_no_setting_of_the_draw_changes_that(name, control):
    options = {"control": CONTROLS[control]}
    assert_same(ahead(CASES[name], 4, **options), plain(CASES[name], **options))
    options["draws"] = Draws(SEEDS)
    assert_same(ahead(CASES[name], 4, **options), plain(CASES[name], **options))


@pytest.mark.parametrize("name", CODES)
def test_given_tokens_stay(name):
    one = CASES[name]
    size = one.spec.layout.size
    alike = (torch.arange(size) % 4 < 2).expand(3, -1)
    for given in (scattered(size), alike, torch.ones(3, size, dtype=torch.bool)):
        tokens = one.tokens(one.example(), given)
        expected = plain(one, tokens=tokens.copy())
        for window in (2, 6):
            drawn = ahead(one, window, tokens=tokens.copy())
            assert_same(drawn, expected)
            assert torch.equal(drawn[0].values[given], tokens.values[given])


@pytest.mark.parametrize("name", [name for name in CODES if "a sample" not in name])
def test_the_batch_changes_no_picture(name):
    one = CASES[name]
    together = ahead(one, 5)[0].values
    for row, seed in enumerate(SEEDS[:2]):  # a first given token is that of row 0, 1, ... of the example
        tokens = one.tokens(one.example()[row : row + 1]) if one.first_given else None
        alone = ahead(one, 5, tokens=tokens, seeds=[seed], labels=torch.tensor([row]))[0].values
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("plan", [raster(SQUARE), zipar(SQUARE, 2), next_neighbor(SQUARE), parallel(SQUARE)])
def test_captions_of_unlike_length_change_nothing(plan):
    torch.manual_seed(3)
    spec = TokenSpec(SQUARE, vocab=11)
    one = case(
        spec,
        plan,
        transformer(spec, plan.axes, plan.extras, classes=0, text_width=6, text_length=5),
    )
    mask = torch.arange(5) >= torch.tensor([[0], [2], [4]])
    cond = Cond(3, text=torch.randn(3, 5, 6), text_mask=mask)
    given = torch.stack([order < 3 * row for row, order in enumerate(orders(16, 3))])
    for known in (torch.zeros_like(given), given):
        canvases = []
        for steps in (generate, Jacobi(2).draw, Jacobi(5).draw, Jacobi(16).draw):
            tokens = Tokens.of(one.example(), known)
            run = start(one.model, plan, cond, one.control, tokens, Draws(SEEDS, gumbel=True))
            canvases.append(finish(run, steps(one.model, run)))
        for other in canvases[1:]:
            assert_same(other, canvases[0])


GUIDANCE = {
    "none": 1.0,
    "constant": 2.5,
    "over steps": schedules.over_steps(1.0, 12.0),
    "over tokens": schedules.over_tokens(9.0, 0.5),
    "in the middle": schedules.within(9.0, 0.3, 0.7),
}


class Combination(NamedTuple):
    """A model, how far it is drawn ahead, for how many samples, how it is guided, and which share of them is given."""

    name: str
    window: int
    batch: int
    guidance: str
    given: float
    seed: int

    def draw(self, steps):
        """The canvas and the number of steps, drawn by `steps(model, run)`."""
        one = CASES[self.name]
        rng = torch.Generator().manual_seed(self.seed)
        known = torch.rand(self.batch, one.spec.layout.size, generator=rng) < self.given
        run = begin(
            one,
            one.tokens(one.example()[: self.batch], known),
            [self.seed + row for row in range(self.batch)],
            control=Control(guidance=GUIDANCE[self.guidance], top_k=7),
        )
        assert bool((run.tokens.given >= known).all())
        return finish(run, steps(one.model, run))

    def check(self):
        assert_same(self.draw(Jacobi(self.window).draw), self.draw(generate))


def combinations(count, seed=0):
    """Combinations drawn at random; heads of several codebooks, which take long, are left out."""
    rng = Random(seed)
    names = [name for name in CODES if CASES[name].model.heads[0].enumerates]
    for number in range(count):
        yield Combination(
            rng.choice(names),
            rng.randint(2, 12),
            rng.randint(1, 3),
            rng.choice(list(GUIDANCE)),
            rng.choice((0.0, 0.0, 0.2, 0.6)),
            100 * number,
        )


def test_drawn_combinations_of_settings_have_the_tokens_of_the_plain_loop():
    several = list(combinations(40))
    assert {each.guidance for each in several} == set(GUIDANCE)
    for each in several:
        try:
            each.check()
        except AssertionError as error:
            raise AssertionError(f"{each}: {error}") from error


def differing(several):
    """Number of combinations whose tokens are not those of the plain loop."""
    count = 0
    for each in several:
        try:
            each.check()
        except AssertionError:
            count += 1
    return count


def test_knobs_of_the_first_step_for_a_whole_window_draw_something_else():
    def wrong(model, run, k, read):
        return replace(proposal_of(model, run, run.k, read), k=k, group=run.plan.groups[k])

    guided = [each for each in combinations(40) if each.guidance not in ("none", "constant")][:12]
    constant = [each for each in combinations(40) if each.guidance == "constant"][:4]
    with patch.object(base, "proposal_of", wrong):
        assert differing(guided) >= 2
        assert differing(constant) == 0, (
            "where all steps have the same knobs, they are those of the first one"
        )


def test_given_tokens_that_are_not_looked_at_draw_something_else():
    def wrong(tokens):
        return replace(copied(tokens), given=torch.zeros_like(tokens.given))

    copied = Tokens.copy
    given = [each for each in combinations(40) if each.given][:8]
    others = [each for each in combinations(40) if not (each.given or CASES[each.name].first_given)][:4]
    with patch.object(Tokens, "copy", wrong):
        assert differing(given) > 2
        assert differing(others) == 0


def test_fresh_noise_in_every_call_draws_something_else():
    class Fresh(Draws):
        calls = 0

        def at(self, step):
            Fresh.calls += 1
            return Draws(self.seeds, step + 1000 * Fresh.calls, self.gumbel)

    one = CASES["transformer raster"]
    with pytest.raises(AssertionError, match="values"):
        assert_same(ahead(one, 4, draws=Fresh(SEEDS, gumbel=True)), plain(one))


def test_wrong_guesses_left_in_the_cache_draw_something_else():
    one = CASES["transformer raster"]
    with (
        patch.object(State, "rewind", lambda self, step: self),
        pytest.raises(AssertionError, match="values"),
    ):
        assert_same(ahead(one, 4), plain(one))


def test_a_step_drawn_from_a_wrong_guess_is_another():
    one, right = CASES["transformer raster"], module._right
    with (
        patch.object(module, "_right", lambda same: min(right(same) + 1, len(same))),
        pytest.raises(AssertionError, match="values"),
    ):
        assert_same(ahead(one, 4), plain(one))


def test_tokens_that_do_not_depend_on_others_take_few_calls():
    one = deepcopy(CASES["raster"])
    # All codes are equally likely, whatever comes before.
    torch.nn.init.zeros_(one.model.heads[0].output.weight)
    assert calls(one, lambda: plain(one)) == 16
    # After a wrong guess the first step alone is committed; the others were drawn rightly and follow with the next.
    expected = {1: 16, 2: 11, 4: 7, 16: 3}
    for window, count in expected.items():
        assert calls(one, lambda window=window: ahead(one, window)) == count
        run = begin(one)
        finish(run, Jacobi(window).draw(one.model, run))
        assert run.passes == count


@pytest.mark.parametrize("name", ["transformer raster", "transformer next-neighbor clip", "rar raster"])
def test_no_window_takes_more_calls_than_the_plain_loop(name):
    one = CASES[name]
    for control in (None, Control(temperature=0.1)):
        plainly = calls(one, lambda control=control: plain(one, control=control))
        for window in (1, 3, 9):
            assert calls(one, lambda w=window, control=control: ahead(one, w, control=control)) <= plainly


@pytest.mark.parametrize("window", [1, 3, 7, 12])
def test_pictures_end_where_those_of_the_plain_loop_do(window):
    torch.manual_seed(0)
    spec = TokenSpec(LINE, vocab=11, prefix_ok=True, ends=True)
    one = case(spec, ordered(LINE), transformer(TokenSpec(Grid(1, 1, 12), vocab=11), learned_positions=True))
    for seeds in ([1, 2, 3], [4], [8, 9]):
        for stop in (stop_rule(spec), stop_rule(spec, 5)):
            assert_same(ahead(one, window, stop, seeds=seeds), plain(one, stop, seeds=seeds))
    lengths = plain(one, stop_rule(spec))[0].length
    assert len(lengths.unique()) > 1, "the pictures of this test have unlike lengths"


def test_a_run_forks_between_any_two_steps():
    one = CASES["transformer next-neighbor"]
    index, seeds, whole = torch.tensor([0, 2, 2]), [6, 7, 8], plain(one)[0].values
    for until in range(1, 6):
        forks = []
        for steps in (lambda run: generate(one.model, run), lambda run: Jacobi(4).draw(one.model, run)):
            run = begin(one)
            next(step for step in steps(run) if step.k + 1 == until)
            fork = run.select(index, seeds)
            forks.append(finish(fork, generate(one.model, fork)))
            finish(run, Jacobi(3).draw(one.model, run))
            assert torch.equal(run.tokens.values, whole), "the run itself goes on"
        assert_same(*forks)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("confident", "chooses the positions of a step after it has drawn all of them"),
        ("maskgit masked", "backbone maskgit reads all tokens anew in every step"),
        ("mar codes", "backbone mar reads all tokens anew"),
        ("xar cells", "readout 'inplace'"),
        ("flowar", "readout 'draft'"),
        ("transformer vectors", "head diffusion_mlp draws vectors"),
    ],
)
def test_models_that_cannot_draw_ahead_are_refused_with_the_reason(name, reason):
    with pytest.raises(ArzooError, match=reason):
        ahead(CASES[name], 4)


def test_a_recurrent_model_and_one_without_a_window_are_refused():
    one = deepcopy(CASES["transformer raster"])
    one.model.backbone.windowed = False
    with pytest.raises(ArzooError, match="backbone llamagen reads one step in a call"):
        ahead(one, 4)
    one.model.backbone.recurrent = True
    with pytest.raises(ArzooError, match="backbone llamagen keeps a summary"):
        ahead(one, 4)


@pytest.mark.parametrize("window", [0, -1, True, 2.0, None])
def test_windows_that_are_no_number_of_steps_are_refused(window):
    with pytest.raises(ArzooError, match="must be a whole number of at least 1, got"):
        ahead(CASES["raster"], window)
