"""Search over a toy prior, against recordings of the published code, token for token.

The prior is a table of logits by the number of tokens and the last token, the "picture" of a canvas are its tokens, and
a verifier is a weighted sum of a table's entries. Sizes and settings are read from the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parity.family import check_keys
from parity.golden import Golden, assert_equal, load
from parity.wrong import fails
from torch import Tensor

from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.samplers.loop import Run, start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.search import lengths
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget, Meter, Work
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.pool import branch
from arzoo.samplers.search.result import Result
from arzoo.samplers.search.uniform import UniformPrior
from arzoo.samplers.verifiers.base import PictureScore, Verifier
from arzoo.samplers.verifiers.ensemble import RankEnsemble
from arzoo.samplers.verifiers.likelihood import Likelihood

CASE = r"(bon|beam_\w+|look\w+|uniform)"
KEYS = [
    rf"{CASE}\.(tokens|scores|beams|rng_state_sum)",
    rf"{CASE}\.step\d+\.(beams|scores)",
    r"chunk\.sample[01]\.(tokens|logprob)",
    "tab|s1|s2",
]
PRECISION = 5e-7
"""Largest absolute error of scores and log-probabilities."""
SEED, CHUNK_SEED, CHUNK_PREFIX = 5, 9, 2
GUIDANCE, WEIGHTS = 3.0, (1.0, 2.0, 0.5)


class TablePrior(Backbone):
    """Features that are logits: those of the number of tokens and the last of them."""

    config = BackboneConfig()

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table  # (unconditional or conditional, length, last token or V, V)
        self.calls: list[int] = []

    def step(self, state, tokens, step):
        self.calls.append(state.batch)
        last = tokens.values[:, step - 1] if step else torch.full((state.batch,), self.table.shape[-1])
        rows = torch.cat([self.table[branch, step, last] for branch in (1, 0)][: state.branches])
        return Read(state.plan.groups[step], rows[:, None, None])


class PublishedDraws(Draws):
    """torch's global generator, called as the published code does.

    Args:
        seeds: One per sample.
        uniform: Codes of the published uniform prior, of which candidates may repeat one.
    """

    def __init__(self, seeds, uniform: bool = False) -> None:
        super().__init__(seeds)
        self.repeats = uniform

    def at(self, step):
        return self

    def select(self, index, seeds=None):
        return PublishedDraws([0] * len(list(index)), self.repeats)

    def categorical(self, probs):
        return torch.multinomial(probs[:, 0], 1)

    def distinct(self, log_probs, count):
        if self.repeats:
            return torch.randint(0, log_probs.shape[1], (len(log_probs), count))
        return torch.multinomial(log_probs.exp(), count)


@contextmanager
def published_generator(seed: int) -> Iterator[None]:
    """Seed torch's global generator, and leave it as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Replay:
    """The recorded prior and verifiers, in our parts."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.vocab, self.size = golden.info["vocab"], golden.info["max_tokens"]
        self.spec = TokenSpec(Ordered(self.size), vocab=self.vocab, prefix_ok=True)
        head = CategoricalConfig(width=self.vocab, vocab=self.vocab, plain=True).build()
        torch.nn.init.eye_(head.output.weight)
        self.prior = SimpleNamespace(backbone=TablePrior(golden["tab"]), heads=[head])
        self.batches: list[int] = []

    def run(self, greedy: bool = False, uniform: bool = False, tokens: Tokens | None = None) -> Run:
        """A run before its first step, of one sample or of those with given tokens."""
        tokens = self.spec.empty(1) if tokens is None else tokens
        batch = len(tokens.values)
        model = UniformPrior.of(self.spec) if uniform else self.prior
        control = Control(guidance=GUIDANCE, greedy=greedy)
        draws = PublishedDraws([0] * batch, uniform)
        return start(model, ordered(self.spec.layout), Cond(batch), control, tokens, draws)

    def decode(self, tokens: Tokens) -> Tensor:
        """The first tokens themselves."""
        self.batches.append(len(tokens.values))
        return tokens.values[:, : int(tokens.known[0].sum())]

    def verifier(self, name: str) -> Verifier:
        """The verifier s1 or s2."""

        def score(codes: Tensor) -> Tensor:
            index = torch.arange(codes.shape[1])
            return (self.golden[name][index, codes] * 2 ** (-index / 4)).sum(1)

        return PictureScore(score, name)

    def verifiers(self, case: str) -> Verifier:
        """The verifier of a case."""
        if "ensemble" not in case:
            return self.verifier("s1")
        members = [self.verifier("s1"), self.verifier("s2"), Likelihood(published=True)]
        return RankEnsemble(members, WEIGHTS, published=True)

    def search(self, case: str, config: dict[str, Any]) -> tuple[Result, Tensor]:
        """Search with the recorded settings; also returns the sum of the generator's state afterwards."""
        uniform = case == "uniform"
        model = UniformPrior.of(self.spec) if uniform else self.prior
        run = self.run(greedy=not config.get("sample", True), uniform=uniform)
        algorithm = algorithm_of(config, self.size, len(self.golden[f"{case}.tokens"]))
        self.batches.clear()
        self.prior.backbone.calls.clear()
        with published_generator(SEED):
            result = algorithm(model, run, self.verifiers(case), self.decode)
            state = torch.get_rng_state().float().sum()
        return result, state


def algorithm_of(config: dict[str, Any], size: int, results: int) -> BestOfN | Beam:
    """The search that recorded settings ask for."""
    config = {key: value for key, value in config.items() if key != "sample"}
    if "n_samples" in config:
        return BestOfN(config.pop("n_samples"), results=results, published=True)
    kind, most = config.pop("token_schedule", "geometric"), config.pop("max_steps", None)
    if kind == "linear":
        kind = lengths.linear(size, config.pop("tokens_per_step"))
    elif kind == "geometric":
        kind = lengths.geometric(size)
    options = dict(
        width=config.pop("beam_width"),
        candidates=config.pop("candidates_per_beam"),
        lengths=kind[:most],
        scale_first=config.pop("scale_first_step", False),
        complete=config.pop("complete_after_search", False),
        results=results,
        published=True,
    )
    ahead = config.pop("lookahead_number", None)
    comparisons = config.pop("max_lookahead_step", None)
    assert not config, f"settings that this test does not know: {config}"
    return Beam(**options) if ahead is None else Lookahead(**options, ahead=ahead, comparisons=comparisons)


def close(name: str, got: Tensor, want: Tensor) -> None:
    """Fail unless all numbers are within the precision."""
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, recorded {tuple(want.shape)}"
    assert bool(want.isfinite().all()), f"{name}: the recording itself is not finite"
    error = float((got - want).abs().max())
    within = error <= PRECISION  # not `error > PRECISION`: every comparison with NaN is false
    assert within, f"{name}: largest error {error:.3g}, allowed {PRECISION:g}"


def first(tokens: Tokens) -> Tensor:
    """The tokens that have a value."""
    return tokens.values[:, : int(tokens.known[0].sum())]


def compare(replay: Replay, case: str, config: dict[str, Any]) -> None:
    """Compare one search with its recording: results, every comparison, and the numbers it drew."""
    golden = replay.golden
    result, state = replay.search(case, config)
    assert_equal(f"{case} tokens", first(result.tokens), golden[f"{case}.tokens"])
    close(f"{case} scores", result.scores, golden[f"{case}.scores"])
    close(f"{case} state of the generator", state, golden[f"{case}.rng_state_sum"])
    steps = sum(key.startswith(f"{case}.step") and key.endswith(".beams") for key in golden)
    for i, each in enumerate(result.history[:steps]):
        name, results = f"{case}.step{i}", len(golden[f"{case}.step{i}.scores"])
        assert_equal(f"{name}.beams", first(each.tokens.select(each.kept)), golden[f"{name}.beams"])
        close(f"{name}.scores", each.scores.topk(results).values, golden[f"{name}.scores"])
    final = result.history[-1]
    beams = first(final.tokens.select(final.kept))
    assert_equal(f"{case} beams", beams, golden[f"{case}.beams"])


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("ordered_search_toy")


@pytest.fixture(scope="module")
def replay(golden: Golden) -> Replay:
    return Replay(golden)


def test_every_recorded_tensor_is_compared(golden):
    check_keys(golden, KEYS)
    cases = {key.split(".")[0] for key in golden if "." in key} - {"chunk"}
    assert cases == set(golden.info["cases"])


def test_all_settings(replay, golden):
    for case, record in golden.info["cases"].items():
        compare(replay, case, record["config"])


def test_calls_of_prior_and_verifier(replay, golden):
    """As many rows in every call; prefixes are fed once, so a chunk costs one step per token and row.

    Candidates of the published uniform prior may repeat; equal ones are scored once here.
    """
    for case, record in golden.info["cases"].items():
        result, _ = replay.search(case, record["config"])
        drawn = [len(each.scores) for each in result.history]
        scored = [len(first(each.tokens).unique(dim=0)) for each in result.history]
        assert drawn == record["verifier_batches"], case
        assert replay.batches == scored, case
        assert drawn == scored or case == "uniform"
        rows = [
            beams
            for beams, _, new, _ in record["prior_calls [beams, prefix, new, samples]"]
            for _ in range(new)
        ]
        if case == "uniform":
            assert (replay.prior.backbone.calls, result.spent.network_calls) == ([], 0)
        else:
            assert replay.prior.backbone.calls == rows, case
            assert result.spent.network_calls == sum(rows), case
        assert result.spent.decodes == sum(scored), case


def chunk(replay: Replay, key: str) -> tuple[Tensor, Tensor]:
    """Draw the recorded chunk again: tokens, and log-probabilities of the new ones."""
    want = replay.golden[f"{key}.tokens"]
    prefixes = want[:, :CHUNK_PREFIX].unique_consecutive(dim=0)
    values = torch.zeros(len(prefixes), replay.size, dtype=torch.long)
    values[:, :CHUNK_PREFIX] = prefixes
    known = (torch.arange(replay.size) < CHUNK_PREFIX).expand(len(values), -1)
    run = replay.run(greedy=key.endswith("sample0"), tokens=Tokens.of(values, known))
    meter = Meter(Budget(), Work.of_run(replay.prior, run))
    with published_generator(CHUNK_SEED):
        pool = branch(replay.prior, run, want.shape[1], len(want) // len(prefixes), meter)
    assert pool.log_probs is not None
    return first(pool.tokens), pool.log_probs[:, None]


def test_log_probabilities_of_a_chunk(replay, golden):
    """Three new tokens, of which the last one branches."""
    for key in ("chunk.sample0", "chunk.sample1"):
        tokens, log_probs = chunk(replay, key)
        assert_equal(f"{key} tokens", tokens, golden[f"{key}.tokens"])
        close(f"{key} log-probabilities", log_probs, golden[f"{key}.logprob"])


def test_wrong_inputs_fail(golden):
    """A thousandth of the prior or of a verifier is noticed, the second verifier's ranks when it is turned round."""

    def check(changed: Golden) -> None:
        replay = Replay(changed)
        for case, record in changed.info["cases"].items():
            compare(replay, case, record["config"])
        for key in ("chunk.sample0", "chunk.sample1"):
            close(key, chunk(replay, key)[1], golden[f"{key}.logprob"])

    check(golden)
    noise = torch.rand(golden["tab"].shape, generator=torch.Generator().manual_seed(0))
    for name, value in {
        "tab": golden["tab"] + 1e-3 * noise,
        "s1": golden["s1"] * 1.001,
        "s2": -golden["s2"],
    }.items():
        assert fails(lambda name=name, value=value: check(Golden({**golden, name: value}, golden.info))), name


def test_wrong_settings_fail(replay, golden):
    """Another width, number of candidates or look ahead draws other tokens."""
    for case, change in {
        "beam_geo": {"candidates_per_beam": 5},
        "beam_linear": {"tokens_per_step": 2},
        "look4": {"lookahead_number": 3},
        "beam_geo_topk": {"sample": True},
        "bon": {"n_samples": 11},
    }.items():
        config = {**golden.info["cases"][case]["config"], **change}
        assert fails(lambda case=case, config=config: compare(replay, case, config)), case
