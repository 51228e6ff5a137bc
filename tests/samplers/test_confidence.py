"""The most confident tokens first: counts, order, noise, given tokens, forks and what is refused."""

import math
from types import SimpleNamespace

import pytest
import torch
from contracts.cases import LINE, SAMPLES, SEEDS, SQUARE, cases, orders
from contracts.networks import head
from reference import FeatureFlow, Masked, NextX, QueryFlow, Shifted

from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control, Progress
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation import fit
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.samplers import schedules
from arzoo.samplers.confidence import surest
from arzoo.samplers.loop import draw, generate, propose, start
from arzoo.samplers.plans.inplace import confident

CODES = TokenSpec(SQUARE, vocab=11)


class Certain(Masked):
    """Its features make position i the (i * 5 % 16)-th most certain, of code i % 11."""

    def step(self, state, tokens, step):
        index = torch.arange(16)
        logits = torch.zeros(16, 11)
        logits[index, index % 11] = 16.0 - index * 5 % 16
        return Read(state.plan.drawn(step), logits.expand(state.rows, -1, -1)[:, :, None])


def certain():
    """Parts whose logits are the features."""
    made = CategoricalConfig(width=11, vocab=11).build()
    made._normed = lambda read: read.features[:, :, 0]
    torch.nn.init.eye_(made.output.weight)
    return SimpleNamespace(backbone=Certain(CODES), heads=[made])


def begin(model, control, plan=None, tokens=None, seeds=SEEDS):
    plan = plan or confident(SQUARE, 5)
    tokens = tokens or CODES.empty(len(seeds))
    return start(model, plan, Cond(len(seeds), label=torch.arange(len(seeds))), control, tokens, Draws(seeds))


@pytest.mark.parametrize("control", [Control(greedy=True), Control(temperature=1e-5)])
def test_the_surest_tokens_come_first(control):
    model = certain()
    run = begin(model, control)
    expected = (torch.arange(16) * 5 % 16).argsort()
    done = 0
    for step in generate(model, run):
        last = run.plan.committed(step.k + 1)
        assert step.group.tolist() == [sorted(expected[done:last].tolist())] * SAMPLES
        assert run.tokens.known.sum(1).tolist() == [last] * SAMPLES
        done = last
    assert run.tokens.values.tolist() == [[i % 11 for i in range(16)]] * SAMPLES


def test_noise_of_the_temperature_of_the_draw_mixes_the_order():
    """Scores are the logits of the drawn codes plus temperature times a second Gumbel noise of the step."""
    model = certain()
    run = begin(model, Control(temperature=3.0))
    proposal = propose(model, run)
    draws = run.draws.at(0)
    codes, scores = proposal.sample_scored(draws)
    draws = run.draws.at(0)
    assert torch.equal(codes, proposal.sample(draws))
    noise = -(-draws.uniform((SAMPLES, 16)).log()).log()
    logits = proposal.predict().gather(-1, codes[..., None])[..., 0]
    assert torch.allclose(scores, logits + 3 * noise)
    group, values = draw(run, proposal)
    assert torch.equal(values, codes)
    first = scores.topk(group.shape[1], 1).indices.sort(1).values
    assert torch.equal(group, first)
    assert len({tuple(row) for row in group.tolist()}) > 1, "each sample has noise of its own"


@pytest.mark.parametrize("counts", [(0, 0, 0), (3, 5, 8), (16, 2, 9), (16, 16, 16)])
@pytest.mark.parametrize("scheduled", [True, False])
def test_given_tokens_are_known_whatever_the_others_have(counts, scheduled):
    made = cases()["mar confident"]
    given = torch.zeros(SAMPLES, 16, dtype=torch.bool)
    for row, count in enumerate(counts):
        given[row, orders(16, SAMPLES, seed=7)[row, :count]] = True
    plan, full = confident(SQUARE, 4, given if scheduled else None), made.example()
    run = made.begin(Tokens.of(full, given), plan=plan)
    for k, _ in enumerate(run.plan.groups):
        known = run.tokens.known.sum(1)
        assert known.tolist() == [max(count, plan.committed(k)) for count in counts]
        assert run.state.counts[k] == (int(known.min()), int(known.max()))
        made.finish(run, until=k + 1)
    assert bool(run.tokens.known.all())
    assert torch.equal(run.tokens.values[given], full[given])


def test_known_positions_are_the_surest():
    known = torch.tensor([[False, True, False, False], [True, True, True, False]])
    scores = torch.tensor([[1.0, -5.0, 3.0, 2.0], [9.0, 0.0, 0.0, 9.0]])
    assert surest(scores, known, 1, 3).tolist() == [[2, 3], [1, 2]]
    assert surest(None, torch.ones_like(known), 2, 4).tolist() == [[2, 3], [2, 3]]


def test_a_fork_with_another_seed_takes_another_order():
    made = cases()["confident"]
    run = made.finish(made.begin(), until=2)
    twice = run.select(torch.tensor([0, 0]), seeds=[SEEDS[0], 99])
    steps = [step.group for step in generate(made.model, twice)]
    alone = [step.group for step in generate(made.model, run.select(torch.tensor([0])))]
    assert all(torch.equal(a[:1], b) for a, b in zip(steps, alone, strict=True))
    assert any(not torch.equal(group[0], group[1]) for group in steps)


def test_published_schedules():
    """TiTok's temperature T0 (1 - r) at ratio r = (s + 1) / n, its guidance r g added, and the power of a cosine."""
    for s in range(8):
        at = Progress(s, 8, s, s + 1, 8)
        left = 1 - (s + 1) / 8
        assert schedules.falling(9.5)(at) == pytest.approx(9.5 * left, abs=1e-5)
        assert schedules.falling(9.5, soften=True)(at) == pytest.approx(
            9.5 * left * (0.5 + 0.8 * left), abs=1e-5
        )
        conditional, null, g = 0.7, -0.2, 4.5
        scale = schedules.rising(1 + g)(at)
        assert null + scale * (conditional - null) == pytest.approx(
            conditional + s / 8 * g * (conditional - null)
        )
        assert schedules.power_cosine(6.9, 3)(at) == pytest.approx(
            (6.9 - 1) * (1 - math.cos(math.pi * (s / 8) ** 3)) / 2 + 1
        )


@pytest.mark.parametrize(
    ("backbone", "parts", "words"),
    [
        (Shifted(CODES), [head(CODES)], ["'inplace'", "backbone reference reads shifted"]),
        (NextX(TokenSpec(SQUARE, channels=4)), [QueryFlow(4)],
         ["backbone reference feeds tokens in an order", "masked model"]),
        (Masked(TokenSpec(SQUARE, channels=4)), [FeatureFlow(4)],
         ["head reference does not say how sure", "categorical"]),
        (Masked(CODES), [head(TokenSpec(SQUARE, vocab=11, codebooks=3))], ["head depth does not say how sure"]),
    ],
)  # fmt: skip
def test_what_cannot_choose_is_refused(backbone, parts, words):
    spec = CODES if parts[0].discrete else TokenSpec(SQUARE, channels=4)
    text = " ".join(map(str, fit.check(spec, backbone, confident(SQUARE, 5), parts)))
    assert all(word in text for word in words), text


def test_ordered_tokens_fit_as_well():
    line = TokenSpec(LINE, vocab=11)
    assert fit.check(line, Masked(line), confident(LINE, 4), [head(line)]) == []
