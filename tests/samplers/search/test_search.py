"""Search: its algorithms over every kind of plan and head, its budget, and what it refuses."""

import contextlib
import itertools
import math
from dataclasses import asdict, replace

import pytest
import torch
from contracts.cases import cases

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.samplers.loop import start
from arzoo.samplers.plans.inplace import masked
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget, Counts, Work
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lengths import fixed, geometric, linear
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.rejection import Rejection
from arzoo.samplers.search.uniform import UniformPrior
from arzoo.samplers.verifiers.likelihood import Likelihood

PLAIN = Control(guidance=1.5)
RASTER = "transformer raster"
NAMES = [
    RASTER,
    "transformer vectors",
    "masked",
    "confident",
    "custom a sample",
    "pivots",
    "scales",
    "rar raster",
]
DIFFERENT = (RASTER, "custom a sample", "transformer vectors", "pivots")
"""Those of which no candidates of a beam are equal."""
ALGORITHMS = [
    BestOfN(5, batch=2, results=3),
    Beam(2, 3, results=2),
    Beam(2, 2, lengths=(1, 2, 3), complete=True),
    Lookahead(2, 2, ahead=-1, comparisons=1, scale_first=True),
    Particles(4, temperature=5.0, results=2),
    Particles(3, threshold=1, lengths=(1, 3), complete=True),
    Rejection(1e9, most=4, batch=3, results=2),
    Rejection(1e9, most=3, lengths=(1, 2)),
    Cautious(3, share=1, lengths=(2, 3)),
]


def test_every_algorithm_has_a_name():
    assert {type(each) for each in ALGORITHMS} == {
        registry.lookup("search_method", name) for name in registry.names("search_method")
    }
    assert registry.create("search_method", "beam", width=2) == Beam(2)
    refused("Did you mean 'width'", registry.create, "search_method", "beam", widht=2)


@pytest.fixture(scope="module")
def made():
    return cases()


def begin(case, control=None, seed=5, **more):
    return case.begin(seeds=[seed], labels=torch.tensor([2]), control=control, **more)


def decode(tokens):
    """A picture is the values, 0 where there are none."""
    known = tokens.known.view(*tokens.known.shape, *[1] * (tokens.values.dim() - 2))
    return torch.where(known, tokens.values, 0).double().flatten(1)


def brightness(pictures):
    return (pictures * torch.linspace(1, 2, pictures.shape[1])).sum(1)


def search(case, algorithm, verifier=brightness, budget=None, control=None, **more):
    return algorithm(case.model, begin(case, control, **more), verifier, decode, budget)


def same_counts(one, other):
    return replace(one, seconds=0.0) == replace(other, seconds=0.0)


def refused(match, call, *args, **kwargs):
    with pytest.raises(ArzooError, match=match):
        call(*args, **kwargs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
def test_every_algorithm_searches_over_every_kind_of_plan(made, name, algorithm):
    """The result is complete and the best of the last comparison, the run stays, and the costs are those predicted."""
    case = made[name]
    run = begin(case)
    before = run.tokens.values.clone()
    result = algorithm(case.model, run, brightness, decode)
    assert torch.equal(run.tokens.values, before)
    assert run.k == 0
    last = result.history[-1]
    results = algorithm.results
    assert torch.equal(result.scores, last.scores.sort(descending=True).values[:results])
    assert torch.equal(brightness(decode(result.tokens)), result.scores)
    assert torch.equal(result.pictures, decode(result.tokens))
    assert bool(result.tokens.known.all())
    predicted = algorithm.predict(Work.of_run(case.model, run))
    assert not Budget(**asdict(replace(predicted, seconds=1e9))).exceeded(result.spent)
    if name in DIFFERENT and not isinstance(
        algorithm, Particles
    ):  # whose candidates may repeat, and are scored once
        assert same_counts(result.spent, predicted)
    assert result.spent.seconds > sum(result.parts.values()) > 0
    assert all(seconds > 0 for seconds in result.parts.values())
    again = algorithm(case.model, run, brightness, decode)
    assert torch.equal(again.tokens.values, result.tokens.values), "the same seed finds the same"


@pytest.mark.parametrize("name", NAMES)
def test_the_first_of_n_is_the_plain_picture(made, name):
    case = made[name]
    plain = case.finish(begin(case)).tokens.values
    history = search(case, BestOfN(3)).history[0]
    assert torch.allclose(history.tokens.values[:1], plain, rtol=1e-3, atol=1e-3), (
        "rounding follows the batch"
    )
    assert not torch.equal(history.tokens.values[1], history.tokens.values[2])


def test_history_is_a_tree(made):
    """Every candidate continues a survivor, in all tokens but its own, and siblings differ in the last one alone."""
    result = search(made[RASTER], Beam(3, 4))
    for before, after in itertools.pairwise(result.history):
        assert len(after.scores) == 12
        assert set(after.parents.tolist()) <= set(before.kept.tolist())
        parents = before.tokens.values[after.parents]
        assert torch.equal(after.tokens.values[:, : before.steps], parents[:, : before.steps])
        families = after.tokens.values.view(3, 4, -1)
        assert bool((families[:, :, : after.steps - 1] == families[:, :1, : after.steps - 1]).all())
        assert all(len(set(codes)) == 4 for codes in families[:, :, after.steps - 1].tolist())
        assert before.kept.tolist() == before.scores.argsort(descending=True)[:3].tolist()


@pytest.mark.parametrize("greedy", [False, True])
def test_forked_caches_give_the_probabilities_of_a_whole_pass(made, greedy):
    """Log-probabilities that a search adds up are those of the tokens in one parallel pass of the network."""
    case, control = made[RASTER], Control(greedy=greedy)
    result = search(case, Beam(3, 4, lengths=linear(16, 3)), control=control)
    model = case.model
    values = result.history[-1].tokens.values
    cond = Cond(len(values), label=torch.full((len(values),), 2))
    read = model.backbone.features(Tokens.of(values), cond, case.plan(1))
    whole = model.heads[0].predict(read).log_softmax(-1).gather(-1, values[..., None])[..., 0].sum(1)
    assert torch.allclose(result.history[-1].log_probs, whole, atol=1e-4)


def test_all_codes_as_candidates_are_exhaustive(made):
    """With every code as a candidate, width 1 finds the best code of each step."""
    case = made[RASTER]
    vocab = case.spec.vocab
    for control in (Control(), Control(greedy=True)):
        result = search(case, Beam(1, vocab, lengths=fixed(16)), control=control)
        assert bool((result.tokens.values == vocab - 1).all()), "brightness rises with the code"


def test_looking_ahead_leaves_the_draws_alone(made):
    """A verifier that looks at the first tokens only keeps the same beams, whatever is drawn ahead."""
    case = made[RASTER]
    algorithms = [
        kind(3, 4, lengths=(1, 2, 4), **options)
        for kind, options in ((Beam, {}), (Lookahead, {"ahead": 3}), (Lookahead, {"ahead": -1}))
    ]
    plain, some, all_ = (search(case, algorithm, lambda p: p[:, 0]) for algorithm in algorithms)
    for one, other, third in zip(plain.history, some.history, all_.history, strict=True):
        assert torch.equal(one.tokens.values, other.tokens.values)
        assert torch.equal(one.tokens.values, third.tokens.values)
    assert [int(r.tokens.known.sum()) for r in (plain, some, all_)] == [4, 7, 16]
    assert torch.equal(some.tokens.values[:, :4], plain.tokens.values[:, :4])


def test_completion_is_greedy_and_scored_again(made):
    case = made[RASTER]
    short = search(case, Beam(2, 3, lengths=(1, 3), results=2), control=PLAIN)
    whole = search(case, Beam(2, 3, lengths=(1, 3), results=2, complete=True), control=PLAIN)
    assert bool(whole.tokens.known.all())
    prefixes = {tuple(row[:3]) for row in short.tokens.values.tolist()}
    assert {tuple(row[:3]) for row in whole.tokens.values.tolist()} == prefixes
    for row in whole.tokens.values:
        known = (torch.arange(16) < 3)[None]
        rest = begin(case, Control(guidance=1.5, greedy=True), tokens=Tokens.of(row[None], known))
        assert torch.equal(case.finish(rest).tokens.values[0], row)
    assert whole.spent.verifications == short.spent.verifications + 2


def test_given_tokens_stay_and_cost_nothing(made):
    case = made[RASTER]
    values = torch.arange(16)[None] % case.spec.vocab
    known = (torch.arange(16) % 3 == 0)[None]
    tokens = Tokens.of(values, known)
    for algorithm in (BestOfN(3), Beam(2, 3), Lookahead(2, 3, ahead=2)):
        result = search(case, algorithm, Likelihood(), tokens=tokens.copy())
        assert torch.equal(result.tokens.values[known], values[known])
        work = Work.of_run(case.model, begin(case, tokens=tokens.copy()))
        assert sum(work.network) == 10
        assert result.history[-1].log_probs.isfinite().all()
    assert search(case, BestOfN(3), tokens=tokens.copy()).spent.network_calls == 30


def test_filters_leave_fewer_candidates(made):
    """Codes without probability are no candidates."""
    case = made[RASTER]
    result = search(case, Beam(2, 5, lengths=(1, 2)), control=Control(top_k=2))
    assert [len(each.scores) for each in result.history] == [2, 4]
    assert result.history[-1].log_probs.isfinite().all()


def test_fewer_candidates_of_one_order_a_sample(made):
    """Candidates that filters leave out are no rows of what is given after them either."""
    case = made["custom a sample"]
    run = begin(case)
    last = run.plan.groups[2][0]
    known = torch.zeros(1, 16, dtype=torch.bool).index_fill_(1, last, True)
    tokens = Tokens.of(torch.zeros(1, 16, dtype=torch.long), known)
    result = search(case, Beam(2, 5, lengths=(1, 3)), control=Control(top_k=2), tokens=tokens, plan=run.plan)
    assert [len(each.scores) for each in result.history] == [2, 4]
    assert bool(result.history[-1].tokens.known[:, last].all())


def test_equal_candidates_are_decoded_and_scored_once(made):
    """A temperature near 0 draws the same again; a beam goes on without repeated candidates."""
    case, sizes = made["masked"], []

    def verifier(pictures):
        sizes.append(len(pictures))
        return brightness(pictures)

    certain = Control(temperature=1e-4)
    many = search(case, BestOfN(4, batch=2), verifier, control=certain)
    assert len(many.history[0].scores) == 4
    assert bool((many.history[0].scores == many.scores[0]).all())
    assert sizes == [1]
    assert many.spent.verifications == 1
    assert many.spent.decodes == 2, "one of each batch"
    beam = search(case, Beam(2, 3), verifier, control=certain)
    assert {len(each.scores) for each in beam.history} == {1}
    assert torch.equal(beam.tokens.values, many.tokens.values)


def test_likelihood_needs_no_picture(made):
    case = made[RASTER]
    result = Beam(2, 3)(case.model, begin(case), Likelihood())
    assert result.pictures is None
    assert result.spent.decodes == 0
    assert torch.allclose(result.scores, result.history[-1].log_probs.max() / 16)
    shown = search(case, Beam(2, 3), Likelihood())
    assert shown.spent.decodes == len(shown.pictures) == 1
    with pytest.raises(ArzooError, match="'likelihood' needs the probabilities"):
        search(made["transformer vectors"], Beam(2, 3), Likelihood())


def test_published_numbers_of_decodes():
    """The counts of the paper's settings, without a model."""
    width, codes = 5, 64000
    assert Beam(width, 10).predict(Work.even(256)).decodes == 410
    assert Beam(width, 10).predict(Work.even(256)).network_calls == 1 + 5 * 255
    assert BestOfN(50).predict(Work.even(256)) == Counts(50 * 256, 50 * 256, 50, 50)
    free = Beam(width, codes // 100, lengths=fixed(32)).predict(Work.even(256, network=0))
    assert free == Counts(0, 0, 99_840, 99_840)
    ahead = Lookahead(width, 10, ahead=8).predict(Work.even(256))
    assert ahead.decodes == 410
    assert ahead.network_calls == 1 + 5 * 255 + 10 * 8 + 7 * 50 * 8


def test_uniform_prior_searches_without_a_model():
    spec = TokenSpec(Ordered(8), vocab=32, prefix_ok=True)
    prior, plan = UniformPrior.of(spec), ordered(spec.layout)
    run = start(prior, plan, Cond(1), Control(), spec.empty(1), Draws([3]))
    result = Beam(3, 10, lengths=fixed(4))(prior, run, brightness, decode)
    assert result.tokens.known.sum() == 4
    assert result.history[-1].log_probs.tolist() == pytest.approx([-4 * math.log(32)] * 30)
    assert same_counts(result.spent, Counts(0, 0, 100, 100))
    assert len(set(result.history[0].tokens.values[:, 0].tolist())) == 10, "without replacement"
    with pytest.raises(ArzooError, match="one code per position"):
        UniformPrior.of(TokenSpec(Ordered(8), channels=4))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("limit", ["network_calls", "head_calls", "decodes", "verifications"])
def test_a_search_stays_inside_every_limit(made, algorithm, limit):
    """From the smallest limit that is not refused to the whole cost, never more is spent."""
    case = made[RASTER]
    full = getattr(algorithm.predict(Work.of_run(case.model, begin(case))), limit)
    accepted = 0
    for most in sorted({1, full // 2, full * 9 // 10, full}):
        budget = Budget(**{limit: most})
        result = None
        with contextlib.suppress(ArzooError):
            result = search(case, algorithm, budget=budget)
        if result is None:
            refused(f"{limit}={most} is too small for one result", search, case, algorithm, budget=budget)
            assert not accepted, "a larger budget is not refused"
            continue
        accepted = getattr(result.spent, limit)
        assert accepted <= most
        assert (result.stopped == limit) == (most < full)
        if getattr(algorithm, "complete", True):
            assert bool(result.tokens.known.all())
    assert accepted == getattr(search(case, algorithm).spent, limit)


def test_any_number_of_samples_is_lowered_by_a_budget(made):
    """Also one that would take hours to count down from."""
    case = made[RASTER]
    many = 10**12
    for algorithm in (BestOfN(many), Particles(many), Rejection(1e9, many, many)):
        result = search(case, algorithm, budget=Budget(verifications=16))
        assert result.stopped == "verifications"
        assert result.spent.verifications > 10


def test_a_budget_of_seconds_ends_a_search(made, monkeypatch):
    """A comparison is not begun if it would end too late, by the longest one before."""
    clock = itertools.count(0.0, 0.25)
    monkeypatch.setattr("arzoo.samplers.search.budget.time.perf_counter", lambda: next(clock))
    case = made[RASTER]
    result = search(case, Beam(2, 3, lengths=fixed(16)), budget=Budget(seconds=4.0))
    assert result.stopped == "seconds"
    assert 1 <= len(result.history) < 16
    for many in (BestOfN(16, batch=1), Rejection(1e9, most=16)):
        result = search(case, many, budget=Budget(seconds=4.0))
        assert result.stopped == "seconds"
        assert 1 <= len(result.history[0].scores) < 16
    assert len(search(case, Particles(2, lengths=fixed(16)), budget=Budget(seconds=4.0)).history) < 16
    cautious = search(case, Cautious(3, share=1), budget=Budget(seconds=4.0))
    assert cautious.stopped == "seconds"
    assert len(cautious.history) < 4
    assert bool(cautious.tokens.known.all()), "drawn to the end without trials"


def test_verifiers_that_return_no_scores_are_refused(made):
    case = made[RASTER]
    for verifier, match in (
        (lambda p: brightness(p) * torch.nan, "returned NaN for 3 of 3 candidates"),
        (lambda p: p, r"one real number per candidate, a tensor \(3,\), got shape \(3, 16\)"),
        (lambda p: brightness(p)[:2], r"got shape \(2,\)"),
        (lambda p: brightness(p).tolist(), "got list"),
    ):
        for algorithm in (
            BestOfN(3),
            Beam(2, 3),
            Lookahead(2, 3, ahead=1),
            Particles(3, lengths=(16,)),
            Rejection(0.5, batch=3),
            Cautious(3),
        ):
            refused(match, search, case, algorithm, verifier)
    refused("a verifier is a Verifier or a function", search, case, Beam(), 3)


def test_bad_requests_are_refused(made):
    case = made[RASTER]
    refused("samples of best-of-N must be a whole number of at least 1, got 0", BestOfN, 0)
    refused("candidates must be a whole number of at least 1, got 0", Beam, 1, 0)
    refused("width 5 is wider than its 4 candidates", Beam, 5, 4)
    refused("particles must be a whole number of at least 1, got 0", Particles, 0)
    refused("temperature of particles must be above 0", Particles, temperature=0)
    refused("threshold of particles is a share", Particles, threshold=1.5)
    refused("most must be a whole number of at least 1, got 0", Rejection, 0.5, 0)
    for threshold in (float("nan"), "high", [0.5, None]):
        refused("a threshold is a finite number", Rejection, threshold)
    refused("2 thresholds for the lengths", search, case, Rejection((0.5, 0.6), lengths=(1, 2)))
    refused("trials must be a whole number of at least 2, got 1", Cautious, 1)
    refused("the share of uncertain tokens", Cautious, share=0)
    refused("ahead=0 looks at nothing", Lookahead, ahead=0)
    refused("budget decodes=0 must be a number above 0", Budget, decodes=0)
    refused("budget seconds=nan must be", Budget, seconds=float("nan"))
    refused("lengths must rise", search, case, Beam(2, 3, lengths=(1, 1)))
    refused("lengths must rise", search, case, Beam(2, 3, lengths=(4, 17)))
    refused("base above 1", geometric, 8, 1.0)
    refused("different candidates are asked of a step", search, case, Beam(2, case.spec.vocab + 1))
    refused("pass decode", Beam(), case.model, begin(case), brightness)
    refused(
        "a search is for one picture, got a run of 3", Beam(), case.model, case.begin(), brightness, decode
    )
    given = Tokens.of(torch.zeros(1, 16, dtype=torch.long))
    refused("nothing to search", search, case, Beam(), tokens=given)
    refused(
        "greedy candidates would all be the same",
        search,
        made["masked"],
        Beam(),
        control=Control(greedy=True),
    )


def test_a_plan_of_one_step_has_nothing_to_choose(made):
    case = made["masked"]
    plan = masked(Grid(1, 4, 4), torch.arange(16)[None], 1)
    refused("draws everything in one step", search, case, Beam(2, 3), plan=plan)
    for algorithm in (BestOfN(3), Particles(3), Rejection(1e9, most=3, batch=3), Cautious(3)):
        assert [len(each.scores) for each in search(case, algorithm, plan=plan).history] == [3]


def test_equally_likely_codes_are_taken_in_their_order():
    """Greedy candidates of a uniform prior, where all codes tie."""
    spec = TokenSpec(Ordered(4), vocab=300, prefix_ok=True)
    prior = UniformPrior.of(spec)
    run = start(prior, ordered(spec.layout), Cond(1), Control(greedy=True), spec.empty(1), Draws([3]))
    for algorithm in (Beam(2, 5), Lookahead(2, 5, ahead=1), Cautious(5)):
        first = algorithm(prior, run, brightness, decode).history[0].tokens.values
        assert sorted(set(first[:, 0].tolist())) == [0, 1, 2, 3, 4]


def test_lengths():
    assert geometric(16) == (1, 2, 4, 8, 16)
    assert geometric(10) == (1, 2, 4, 8, 10)
    assert geometric(6, 1.3) == (1, 2, 3, 4, 6)
    assert geometric(1) == (1,)
    assert geometric(6, 1 + 1e-12) == geometric(6, 1.1) == fixed(6)
    refused("a finite base above 1", geometric, 6, math.inf)
    assert linear(10, 4) == (4, 8, 10)
    assert linear(8, 4) == (4, 8)
    assert fixed(3) == (1, 2, 3)
