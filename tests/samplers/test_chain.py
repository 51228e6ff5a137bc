"""Drafts are kept or replaced with the law of the target: all outcomes are enumerated. Wrong twins have another law."""

from itertools import product

import pytest
import torch

from arzoo.core.draws import Draws
from arzoo.samplers.speculative.chain import Verdict, block, chain, kept_of_block, law, residual

V = 3
LAWS = ("random", "equal", "disjoint", "filtered target", "filtered draft", "one code", "one guess")


def table(generator, *shape):
    return torch.rand(*shape, V, generator=generator, dtype=torch.float64).pow(3)


def laws(name, tokens, seed=0):
    """Laws (tokens, V) of the tokens of a first step, and (V, ..., V) of one token after it: target and draft."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(tokens,), (V,) * tokens]
    p, q = ([table(generator, *shape) for shape in shapes] for _ in range(2))
    if name == "equal":
        q = p
    for ours, drafts in zip(p, q, strict=True):
        if name == "disjoint":
            ours[..., 0], drafts[..., 1:] = 0, 0
        if name == "filtered target":
            ours[..., 1] = 0
        if name == "filtered draft":
            drafts[..., 2] = 0
        if name == "one code":
            ours[..., 1:] = 0
        if name == "one guess":
            drafts[..., :2] = 0
    return [law(one) for one in p], [law(one) for one in q]


def tv(first, second):
    return float((first - second).abs().sum() / 2)


def right(p):
    """The law of both steps."""
    first = p[0][0]
    for one in p[0][1:]:
        first = first[..., None] * one
    return first[..., None] * p[1]


def outcomes(rule, p, q, code):
    """(token, whether it is the draft, probability)."""
    verdict = rule(p, q, torch.tensor([code]))
    keep = float(verdict.keep)
    return [(code, True, keep), *((y, False, (1 - keep) * float(verdict.rest[y])) for y in range(V))]


def chained(p, q, rule=chain, checked=True):
    """Law of what the rule commits, drafts of the second step being used if all of the first were kept."""
    tokens, out = len(p[0]), torch.zeros_like(p[1])
    for drafts in product(range(V), repeat=tokens):
        chance = torch.tensor([q[0][i][x] for i, x in enumerate(drafts)]).prod()
        if not chance:
            continue
        first = [outcomes(rule, p[0][i], q[0][i], x) for i, x in enumerate(drafts)]
        for way in product(*first):
            committed = tuple(token for token, _, _ in way)
            reached = float(chance) * float(torch.tensor([c for _, _, c in way], dtype=torch.float64).prod())
            if not reached:
                continue
            if checked and not all(kept for _, kept, _ in way):
                out[committed] += reached * p[1][committed]
                continue
            read = p[1][committed if checked else drafts]
            for x in range(V):
                for y, _, odds in outcomes(rule, read, q[1][drafts], x):
                    out[(*committed, y)] += reached * q[1][drafts][x] * odds
    return out


def whole_residual(p, q, codes):
    """Wrong: a token that replaces a draft is drawn from the target."""
    return Verdict(chain(p, q, codes).keep, law(p))


def blocked(p, q, rule=block):
    """Law of two tokens of which each makes a step, and how many drafts are kept on average."""
    out, kept = torch.zeros_like(p[1]), 0.0
    for x, y in product(range(V), repeat=2):
        chance = float(q[0][0][x] * q[1][x][y])
        verdict = rule(torch.stack([p[0][0], p[1][x]]), torch.stack([q[0][0], q[1][x]]), torch.tensor([x, y]))
        one, two = verdict.keep.tolist()
        out[x, y] += chance * two
        out[x] += chance * (1 - two) * one * verdict.rest[1]
        out += chance * (1 - two) * (1 - one) * verdict.rest[0][:, None] * p[1]
        kept += chance * (2 * two + (1 - two) * one)
    return out, kept


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("name", LAWS)
def test_a_chain_has_the_law_of_the_target(name, tokens):
    p, q = laws(name, tokens)
    torch.testing.assert_close(chained(p, q), right(p), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", LAWS)
def test_a_block_has_the_law_of_the_target(name):
    for seed in range(4):
        p, q = laws(name, 1, seed)
        out, _ = blocked(p, q)
        torch.testing.assert_close(out, right(p), rtol=0, atol=1e-14)


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_draft_replaced_from_the_target_has_another_law(tokens):
    p, q = laws("random", tokens)
    assert tv(chained(p, q, whole_residual), right(p)) > 0.05


@pytest.mark.parametrize("tokens", [1, 2])
def test_drafts_after_a_replaced_one_have_another_law(tokens):
    p, q = laws("random", tokens)
    assert tv(chained(p, q, checked=False), right(p)) > 0.05


def odds_alone(p, q, codes):
    """Wrong: a part of the chain is kept as often as its last draft fits."""
    verdict = block(p, q, codes)
    first, second = (chain(p[i], q[i], codes[i : i + 1]).keep for i in range(2))
    return Verdict(torch.cat([first, first * second]), verdict.rest)


def unclipped(p, q, codes):
    """Wrong: the law of what replaces a draft forgets how likely the drafts before it were."""
    return Verdict(block(p, q, codes).keep, residual(p, q))


@pytest.mark.parametrize("twin", [odds_alone, unclipped])
def test_wrong_blocks_have_another_law(twin):
    p, q = laws("random", 1, seed=9)
    assert tv(blocked(p, q)[0], right(p)) < 1e-14
    assert tv(blocked(p, q, twin)[0], right(p)) > 0.005


def test_a_block_keeps_at_least_as_many_drafts_as_a_chain():
    gains = []
    for seed in range(12):
        p, q = laws("random", 1, seed)
        chained_kept = sum(
            float(q[0][0][x]) * keep * (1 + float(torch.minimum(p[1][x], q[1][x]).sum()))
            for x in range(V)
            for keep in [float(chain(p[0][0], q[0][0], torch.tensor([x])).keep)]
        )
        gains.append(blocked(p, q)[1] - chained_kept)
    assert min(gains) > -1e-12
    assert max(gains) > 0.01


def test_equal_laws_keep_all_drafts_and_disjoint_ones_none():
    for name, keep in (("equal", 1), ("disjoint", 0)):
        p, q = laws(name, 1)
        code = q[0][0].argmax()[None]
        assert float(chain(p[0][0], q[0][0], code).keep) == keep
        joint = block(torch.stack([p[0][0]] * 3), torch.stack([q[0][0]] * 3), code.expand(3))
        assert joint.keep[-1] == keep
        assert bool(joint.rest.isfinite().all())


def test_a_residual_that_rounding_takes_away_is_the_target():
    p = law(torch.tensor([0.3, 0.7]))
    assert torch.equal(residual(p, p), p)
    rounded = law(p.float())
    assert torch.equal(chain(rounded, rounded.float(), torch.tensor([0])).rest, rounded)


def test_the_longest_part_that_is_kept_counts():
    keep = torch.tensor(
        [[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    )
    verdict = Verdict(keep, torch.zeros(4, 4, V))
    assert kept_of_block(verdict, Draws([1, 2, 3, 4])).tolist() == [3, 0, 2, 4]
