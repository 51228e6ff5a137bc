"""Rules of relaxed acceptance keep more drafts, with another law, which is measured; the mildest settings are exact."""

import pytest
import torch

from arzoo.samplers.speculative.chain import chain, law
from arzoo.samplers.speculative.relaxed import alike, judged, near, neighbours

V = 12
CODEBOOK = torch.stack([torch.arange(V) * 2.0**0.5, torch.zeros(V)], 1)
"""Codes on a line, like levels of grey."""
AROUND = neighbours(CODEBOOK, 4)


def laws(seed):
    rng = torch.Generator().manual_seed(seed)
    smooth = [
        torch.rand(V, generator=rng, dtype=torch.float64).pow(2).unfold(0, 3, 1).mean(-1) for _ in range(2)
    ]
    p, q = (torch.cat([x, x[:2]]) for x in smooth)
    p[1], q[4] = 0, 0  # as after a filter
    return law(p), law(q)


def outcome(rule, p, q):
    """Law of the token that comes out of a draft from q, over all drafts, and the share of drafts that are kept."""
    codes = torch.arange(V)[:, None]
    verdict = rule(p.expand(V, V), q.expand(V, V), codes)
    assert bool(((verdict.keep >= 0) & (verdict.keep <= 1)).all())
    assert torch.allclose(verdict.rest.sum(-1), torch.ones(V, dtype=torch.float64))
    kept = q * verdict.keep[:, 0]
    return kept + ((q - kept)[:, None] * verdict.rest).sum(0), float(kept.sum())


def tv(first, second):
    return float((first - second).abs().sum() / 2)


def nothing_valid(p, q, codes):
    return judged(p, q, codes, torch.zeros(codes.shape))


EXACT = {
    "chain": chain,
    "near, nothing is lent": lambda *x: near(*x, AROUND, 0.0),
    "near, no neighbours": lambda *x: near(*x, AROUND[:, :0], 0.9),
    "near, delta 1 of the code": lambda *x: near(*x, AROUND, 1 + 1e-12),
    "alike, groups of one": lambda *x: alike(*x, 0, 1.0),
    "alike, no tolerance": lambda *x: alike(*x, 7, 0.0),
    "nothing is valid": nothing_valid,
}
RELAXED = {
    "near": [lambda *x, d=d: near(*x, AROUND, d) for d in (0.05, 0.1, 0.2, 0.5)],
    "near, in units of the code": [lambda *x, d=d: near(*x, AROUND, d) for d in (1.2, 2.0, 4.0)],
    "alike": [lambda *x, n=n: alike(*x, n, 0.15) for n in (1, 2, 4, 11)],
    "judged": [lambda *x, v=v: judged(*x, torch.full(x[2].shape, v)) for v in (0.3, 0.7, 1.0)],
}


@pytest.mark.parametrize("name", EXACT)
def test_the_mildest_settings_are_exact(name):
    for seed in range(20):
        p, q = laws(seed)
        drawn, kept = outcome(EXACT[name], p, q)
        assert tv(drawn, p) < 1e-9
        assert kept == pytest.approx(1 - tv(p, q), abs=1e-9)


@pytest.mark.parametrize("name", RELAXED)
def test_relaxed_rules_keep_more_the_more_they_are_relaxed_and_have_another_law(name):
    shares = []
    for rule in (chain, *RELAXED[name]):
        drawn = [(outcome(rule, *laws(seed)), laws(seed)[0]) for seed in range(20)]
        shares.append(sum(kept for (_, kept), _ in drawn) / len(drawn))
        error = sum(tv(law_of, p) for (law_of, _), p in drawn) / len(drawn)
        assert (error < 1e-9) == (rule is chain), "this test of exactness tells them from an exact rule"
        assert rule is chain or error > 1e-4
    assert error > 0.05
    assert shares == sorted(shares)
    assert shares[-1] > shares[0] + 0.05


def test_neighbours_are_the_nearest_other_codes():
    assert AROUND[0].tolist() == [1, 2, 3, 4]
    assert set(AROUND[5].tolist()) == {3, 4, 6, 7}
    assert neighbours(CODEBOOK, 99).shape == (V, V - 1)


def test_lent_probability_stops_at_delta():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q, code = torch.tensor([0.97, 0.01, 0.01, 0.01], dtype=torch.float64), torch.tensor([0])
    around = torch.tensor([[1, 2, 3]]).expand(4, -1)
    for delta, lent in (
        (0.19, 0.0),
        (0.2, 0.2),
        (0.49, 0.2),
        (0.51, 0.5),
        (2.9, 0.0),
        (3.1, 0.2),
        (7.0, 0.5),
    ):
        assert float(near(p, q, code, around, delta).keep) == pytest.approx((0.1 + lent) / 0.97), delta
