"""Every rule for candidates draws from the target's law, whatever the draft: enumerated. Its wrong twins do not."""

from itertools import permutations, product

import pytest
import torch

from arzoo.core.draws import Draws
from arzoo.samplers.speculative.candidates import RULES
from arzoo.samplers.speculative.chain import Verdict, ratio, residual

LAWS = {
    "near": ([0.5, 0.3, 0.2], [0.4, 0.4, 0.2]),
    "equal": ([0.1, 0.6, 0.3], [0.1, 0.6, 0.3]),
    "disjoint": ([0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.4, 0.6]),
    "filtered target": ([0.0, 0.8, 0.2, 0.0], [0.3, 0.3, 0.3, 0.1]),
    "filtered draft": ([0.2, 0.3, 0.4, 0.1], [0.9, 0.1, 0.0, 0.0]),
    "one code": ([0.0, 0.0, 1.0], [0.2, 0.0, 0.8]),
    "one draft": ([0.3, 0.3, 0.4], [0.0, 1.0, 0.0]),
    "far": ([0.01, 0.04, 0.15, 0.8], [0.7, 0.2, 0.09, 0.01]),
}


def law(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def ways(name, q, count):
    """All candidates that a rule may draw from q, with their probabilities."""
    codes = range(len(q))
    if name == "top":
        return [(tuple(q.topk(count).indices.tolist()), 1.0)]
    if name != "distinct":
        return [(way, float(q[list(way)].prod())) for way in product(codes, repeat=count)]
    support = int((q > 0).sum())
    out = []
    for way in permutations(codes, count):
        chance, left = 1.0, 1.0
        for number, code in enumerate(way):
            if number < support:
                chance, left = chance * float(q[code]) / left, left - float(q[code])
            elif sorted(way[number:]) != list(way[number:]):
                chance = 0.0  # codes without mass come last, in any fixed order
        out.append((way, chance))
    total = sum(chance for _, chance in out)
    return [(way, chance / total) for way, chance in out if chance > 0]


def stacked(pairs):
    """Candidates (W, k) and their probabilities (W,)."""
    return torch.tensor([way for way, _ in pairs]), law([chance for _, chance in pairs])


def outcome(name, p, q, count, judge=None):
    """The law of the token, summed over candidates and decisions."""
    drawn, chances = stacked(ways(name, q, count))
    p, q = (x.expand(len(drawn), -1) for x in (p, q))
    verdict = (judge or RULES[name].judge)(p, q, drawn)
    left = torch.cat([torch.ones(len(drawn), 1), (1 - verdict.keep).cumprod(-1)], -1)
    total = (left[:, -1:] * verdict.rest).scatter_add(-1, drawn, left[:, :-1] * verdict.keep)
    return chances @ total


def distance(first, second):
    """Total variation."""
    return float((first - second).abs().sum() / 2)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("laws", LAWS)
@pytest.mark.parametrize("name", RULES)
def test_the_token_has_the_law_of_the_target(name, laws, count):
    p, q = map(law, LAWS[laws])
    assert distance(outcome(name, p, q, count), p) < 1e-12


@pytest.mark.parametrize("name", RULES)
def test_rows_are_judged_alone_and_laws_of_half_precision_are_normalised(name):
    p, q = (torch.stack([law(pair[i]) for pair in LAWS.values() if len(pair[0]) == 4]) for i in (0, 1))
    codes = RULES[name].draw(q[None], 3, Draws([4]))[0]
    together = RULES[name].judge(p.float() * 0.7, q.float() * 1.3, codes)
    for row in range(len(p)):
        alone = RULES[name].judge(p[row], q[row], codes[row])
        torch.testing.assert_close(together.keep[row], alone.keep, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.rest[row], alone.rest, atol=1e-5, rtol=1e-5)
    assert (together.rest.sum(-1) - 1).abs().max() < 1e-12


def unrenormalised(p, q, codes):
    keep = []
    for code in codes.split(1, -1):
        keep.append(ratio(p, q, code).clamp(max=1))
        p, q = residual(p, q), q.scatter(-1, code, 0.0)
    return Verdict(torch.cat(keep, -1), p)


def redrawn(p, q, codes):
    return Verdict(RULES["recursive"].judge(p, q, codes).keep, p)


def without_a_cap(p, q, codes):
    """K-SEQ with rho 1."""
    kept = torch.minimum(p, q)
    each = kept.sum(-1, keepdim=True)
    rest = (p - kept * (1 - (1 - each) ** codes.shape[-1]) / each).clamp(min=0)
    return Verdict((p / q).clamp(max=1).gather(-1, codes), rest / rest.sum(-1, keepdim=True))


def always_against_the_same(p, q, codes):
    return Verdict((p / q).clamp(max=1).gather(-1, codes), residual(p, q))


def kept_in_place(p, q, codes):
    return Verdict(p.gather(-1, codes), RULES["top"].judge(p, q, codes).rest)


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("recursive", redrawn),
        ("recursive", always_against_the_same),
        ("k_seq", without_a_cap),
        ("distinct", unrenormalised),
        ("top", kept_in_place),
    ],
)
def test_wrong_twins_draw_from_another_law(name, twin):
    p, q = law([0.35, 0.35, 0.2, 0.1]), law([0.2, 0.15, 0.3, 0.35])
    assert distance(outcome(name, p, q, 2), p) < 1e-12
    assert distance(outcome(name, p, q, 2, twin), p) > 0.01


@pytest.mark.parametrize("name", ["recursive", "k_seq", "distinct"])
def test_equal_laws_keep_the_first_candidate_and_disjoint_ones_none(name):
    p, q = map(law, LAWS["equal"])
    assert RULES[name].judge(p, q, torch.tensor([1, 2])).keep[0] > 1 - 1e-9
    p, q = map(law, LAWS["disjoint"])
    verdict = RULES[name].judge(p, q, torch.tensor([2, 3]))
    assert not verdict.keep.any()
    torch.testing.assert_close(verdict.rest, p)


def test_rounding_that_leaves_no_residual_falls_back_to_the_target():
    p = law([0.25, 0.75])
    assert torch.equal(residual(p, p), p)
    assert torch.equal(residual(p, p * (1 + 1e-15)), p)


def kept(name, p, q, count):
    """How often a candidate is kept."""
    drawn, chances = stacked(ways(name, q, count))
    verdict = RULES[name].judge(*(x.expand(len(drawn), -1) for x in (p, q)), drawn)
    return float(chances @ (1 - (1 - verdict.keep).prod(-1)))


def test_more_candidates_are_kept_more_often():
    torch.manual_seed(0)
    p, q = torch.randn(2, 6, dtype=torch.float64).mul(2).softmax(-1)
    overlap = 1 - distance(p, q)
    for name in ("recursive", "k_seq", "distinct"):
        rates = [kept(name, p, q, count) for count in (1, 2, 3)]
        assert rates[0] == pytest.approx(overlap)
        assert rates == sorted(rates)
        assert rates[2] > rates[0] + 0.05


def far_from_the_law(name, drafting, deciding):
    """Chi-square of 6000 tokens, 3 degrees of freedom, and whether each is a candidate where it says so.

    Args:
        name: The rule.
        drafting: Seeds of two samples, for the candidates.
        deciding: The same for the decisions.
    """
    p, q = (law(numbers).float().expand(2, 3000, -1) for numbers in LAWS["far"])
    codes = RULES[name].draw(q, 2, Draws(drafting))
    tokens, index = RULES[name].judge(p, q, codes).choose(codes, Draws(deciding))
    chosen = index < 2
    assert torch.equal(codes.gather(-1, index.clamp(max=1)[..., None])[..., 0][chosen], tokens[chosen])
    assert 0 < chosen.sum() < chosen.numel()
    counts = torch.bincount(tokens.flatten(), minlength=4).double()
    expected = p[0, 0].double() * tokens.numel()
    chi = float(((counts - expected) ** 2 / expected).sum())
    return chi


@pytest.mark.parametrize("name", RULES)
def test_a_token_is_one_of_its_candidates_or_none_of_them(name):
    assert far_from_the_law(name, [1, 2], [3, 4]) < 16.3  # the 0.1 % point of 3 degrees of freedom


@pytest.mark.parametrize("name", ["recursive", "k_seq"])
def test_decisions_that_share_the_noise_of_their_candidates_have_another_law(name):
    assert far_from_the_law(name, [1, 2], [1, 2]) > 40
