"""Randomness, filters and schedules of sampling."""

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control, Progress, Settings
from arzoo.core.draws import Draws
from arzoo.samplers import schedules
from arzoo.samplers.filters import probabilities, top_k_, top_p_


def at(step, steps, **facts):
    return Progress(
        step, steps, facts.get("done", step), facts.get("after", step + 1), facts.get("total", steps)
    )


def test_draws_depend_on_seed_and_step_alone():
    draws = Draws([1, 2, 3]).at(7)
    first = draws.normal((3, 5))
    assert torch.equal(Draws([2]).at(7).normal((1, 5)), first[1:2]), "own seed only"
    other = Draws([1, 2, 3])
    other.at(6).normal((3, 99))
    assert torch.equal(other.at(7).normal((3, 5)), first), "earlier steps do not matter"
    assert not torch.equal(draws.normal((3, 5)), first), "calls of a step differ"
    assert not torch.equal(Draws([1, 2, 3]).at(8).normal((3, 5)), first)
    assert torch.equal(Draws([-1]).uniform((1, 3)), Draws([2**64 - 1]).uniform((1, 3)))
    with pytest.raises(ArzooError, match="3 samples"):
        draws.uniform((2, 4))


def test_compiled_functions_draw_the_same():
    """The integers behind draws are of a type that the compiler does not know."""

    def noisy(x, draws):
        return x + draws.normal(x.shape)

    compiled = torch.compile(noisy, backend="eager")
    x = torch.zeros(2, 3)
    assert torch.equal(compiled(x, Draws([1, 2])), noisy(x, Draws([1, 2])))


def test_draws_have_the_right_distributions():
    draws = Draws(range(4)).at(0)
    u, x = draws.uniform((4, 50000)), draws.normal((4, 50000)).double()
    assert u.min() > 0
    assert u.max() < 1
    assert (u.mean(1) - 0.5).abs().max() < 0.01
    assert x.mean(1).abs().max() < 0.02
    assert (x.var(1) - 1).abs().max() < 0.03
    assert (x**4).mean() / 3 == pytest.approx(1, abs=0.05)
    assert (torch.corrcoef(x) - torch.eye(4)).abs().max() < 0.03
    integers = draws.integers((4, 50000), 7)
    assert torch.bincount(integers.flatten()).div(200000).sub(1 / 7).abs().max() < 0.01
    assert torch.equal(draws.permutation(9).sort(1).values, torch.arange(9).expand(4, -1))


def test_categorical_follows_its_probabilities():
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(4, 20000, 4)
    found = Draws(range(4)).categorical(probs)
    assert (torch.bincount(found.flatten(), minlength=4) / 80000 - probs[0, 0]).abs().max() < 0.01
    assert not (found == 1).any()
    last = torch.tensor([[[0.0, 0.0, 1.0, 0.0]]])
    assert Draws([3]).categorical(last).item() == 2


def test_selected_rows_keep_or_change_their_seeds():
    draws = Draws([1, 2, 3])
    assert draws.select([2, 2]).seeds == [3, 3]
    assert draws.select([0, 1], seeds=[8, 9]).seeds == [8, 9]


def test_codes_drawn_with_gumbel_noise_follow_their_probabilities():
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(4, 20000, 4)
    draws = Draws(range(4), gumbel=True).at(2)
    found = draws.categorical(probs)
    assert (torch.bincount(found.flatten(), minlength=4) / 80000 - probs[0, 0]).abs().max() < 0.01
    assert not (found == 1).any()
    assert torch.equal(draws.select([3]).at(2).categorical(probs[3:]), found[3:]), "own seed only"
    assert torch.equal(Draws([3], 2, gumbel=True).categorical(7 * probs[3:]), found[3:]), "any scale"
    assert not torch.equal(Draws(range(4)).at(2).categorical(probs), found)


def test_gumbel_noise_keeps_codes_that_a_small_shift_of_mass_does_not_concern():
    """Shared noise is what parallel decoding by fixed-point iteration needs; inversion moves every later boundary."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2000, 256, generator=random)
    probs, moved = (
        x.softmax(-1) for x in (logits, logits + 0.3 * torch.randn(logits.shape, generator=random))
    )
    same = 1 - 0.5 * (probs - moved).abs().sum(-1).mean()

    def agreement(gumbel):
        first, second = (Draws([1], gumbel=gumbel).at(0).categorical(x) for x in (probs, moved))
        return (first == second).float().mean()

    assert agreement(True) > same / (2 - same) - 0.02, "the bound of shared Gumbel noise"
    assert agreement(False) < 0.5 * agreement(True)


def test_top_p_keeps_ties_with_the_crossing_code():
    probs = torch.tensor([[0.4, 0.2, 0.2, 0.2]])
    assert torch.equal(top_p_(probs.clone(), 0.5), probs)
    assert top_p_(probs.clone(), 0.3).tolist()[0][1:] == [0, 0, 0]


def test_top_k_keeps_ties_with_the_last():
    kept = top_k_(torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]]), 2)
    assert torch.isfinite(kept).tolist() == [[True, False, True, True, False]]


def test_temperature_comes_before_the_filters():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    assert torch.allclose(
        probabilities(logits.clone(), Settings(temperature=0.5)), (logits / 0.5).softmax(-1)
    )
    cold = probabilities(logits.clone(), Settings(temperature=0.0))
    assert cold[0, 0] == 1
    assert (probabilities(logits.clone(), Settings(top_k=1)) > 0).tolist() == [[True, False, False]]


@pytest.mark.parametrize(
    ("shape", "total"), [("linear", 1733), ("cosine", 1729), ("two-stage", 1760), ("constant", 320)]
)
def test_annealed_head_steps_have_the_published_totals(shape, total):
    schedule = schedules.anneal(50, 5, shape)
    assert sum(schedule(at(k, 64)) for k in range(64)) == total


def test_annealed_head_steps_of_short_plans():
    assert [schedules.anneal(50, 15)(at(k, 5)) for k in range(5)] == [50, 41, 32, 23, 15]
    assert [schedules.anneal(50, 15)(at(k, 4)) for k in range(4)] == [50, 38, 26, 15]
    assert schedules.anneal(50, 15)(at(0, 1)) == 50


def test_guidance_schedules():
    linear = schedules.over_steps(1.0, 2.7)
    assert [linear(at(k, 4)) for k in range(4)] == pytest.approx([1, 1 + 1.7 / 3, 1 + 3.4 / 3, 2.7])
    assert schedules.over_tokens(1.0, 3.0)(at(3, 4, after=64, total=64)) == pytest.approx(1 + 2 * 63 / 64)
    cosine = schedules.cosine_over_steps(1.0, 3.0)
    assert [cosine(at(k, 3)) for k in range(3)] == pytest.approx([1, 2, 3])
    assert [schedules.until_step(3.0, 1)(at(k, 9)) for k in range(4)] == [3, 3, 3, 1]
    assert [schedules.until_tokens(3.0, 4)(at(k, 9, done=d)) for k, d in enumerate((0, 4, 5))] == [3, 3, 1]
    assert schedules.constant(2.0)(at(0, 1)) == 2


def test_knobs_that_count_are_whole_numbers_at_every_step():
    control = Control(
        top_k=schedules.over_steps(50.0, 5), head_steps=schedules.over_tokens(9, 2), max_timestep=950.0
    )
    for k in range(7):
        settings = control.at(at(k, 7))
        assert [type(x) for x in (settings.top_k, settings.head_steps, settings.max_timestep)] == [int] * 3
        assert abs(settings.top_k - control.top_k(at(k, 7))) <= 0.5


@pytest.mark.parametrize("bad", [(0, 999), (0.8, 0.2), (-0.1, 1), (0.5,), 0.5, ("a", "b"), (float("nan"), 1)])
def test_an_interval_is_two_shares_of_noise(bad):
    with pytest.raises(ArzooError, match=r"interval must be a pair of shares of noise"):
        Control(interval=bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, "5", torch.tensor(3)])
def test_a_schedule_gives_finite_numbers(bad):
    with pytest.raises(ArzooError, match=r"temperature .*, from its schedule at step 1 of 4"):
        Control(temperature=lambda progress: bad if progress.step == 1 else 1.0).at(at(1, 4))


def test_controls_become_numbers():
    control = Control(guidance=schedules.over_steps(1.0, 3.0), top_k=lambda p: p.step, temperature=0.9)
    settings = control.at(at(2, 3))
    assert settings.guidance == 3
    assert settings.top_k == 2
    assert settings.temperature == 0.9
    assert settings.interval is None


def test_conditions_double_and_select():
    cond = Cond(2, label=torch.tensor([3, 4]))
    assert cond.doubled().label.tolist() == [3, 4, 3, 4]
    assert cond.doubled().dropped.tolist() == [False, False, True, True]
    assert not cond.dropped.any(), "the original is untouched"
    assert cond.select(torch.tensor([1, 1])).label.tolist() == [4, 4]
    text, mask, prefix = torch.rand(2, 5, 3), torch.ones(2, 5), torch.arange(8).view(2, 4)
    asked = Cond(2, text=text, text_mask=mask, prefix=prefix, drop=torch.tensor([True, False]))
    two = asked.doubled().select(torch.tensor([3, 0]))
    assert two.dropped.tolist() == [True, True]
    assert torch.equal(two.text, text.flip(0))
    assert torch.equal(two.text_mask, mask)
    assert torch.equal(two.to("cpu").prefix, prefix.flip(0))
    with pytest.raises(ArzooError, match="'prefix' has 2 rows"):
        Cond(3, prefix=prefix)
    with pytest.raises(ArzooError, match="'label' has 2 rows"):
        Cond(3, label=torch.tensor([1, 2]))
