"""Top-k and top-p against plain references that sort, on random and on contrived distributions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arzoo.core.control import Settings
from arzoo.samplers import large_vocabulary
from arzoo.samplers.filters import log_probabilities, probabilities, top_k_, top_p_

# Few values make ties; powers of two keep every sum exact, so that no code lies on the threshold by rounding.
WEIGHTS = st.lists(st.sampled_from([0, 1, 1, 2, 4, 8, 32, 1024]), min_size=1, max_size=24).filter(any)
LOGITS = st.lists(
    st.one_of(st.sampled_from([-math.inf, -1e30, -1.0, 0.0, 0.5, 0.5, 3.0]), st.floats(-50, 50, width=32)),
    min_size=1,
    max_size=24,
).filter(lambda logits: max(logits) > -math.inf)


def kept_by_top_k(logits, k):
    """Codes whose logit is at least the k-th largest."""
    kth = sorted(logits, reverse=True)[min(k, len(logits)) - 1]
    return [logit >= kth for logit in logits]


def kept_by_top_p(weights, p):
    """Codes in falling order up to the one with which their mass first exceeds p, and its ties. Exact arithmetic."""
    total, threshold, mass = Fraction(sum(weights)), Fraction(p), Fraction(0)
    last = max(weights)
    for weight in sorted(weights, reverse=True):
        last = weight
        mass += Fraction(weight) / total
        if mass > threshold:
            break
    return [weight >= last for weight in weights]


@settings(max_examples=200, deadline=None)
@given(LOGITS, st.integers(1, 30))
def test_top_k(logits, k):
    kept = top_k_(torch.tensor([logits]), k)[0]
    expected = [v if keep else -math.inf for v, keep in zip(logits, kept_by_top_k(logits, k), strict=True)]
    assert torch.equal(kept, torch.tensor(expected))


@settings(max_examples=300, deadline=None)
@given(WEIGHTS, st.integers(0, 64))
def test_top_p(weights, share):
    """Weights are padded to a sum that is a power of two, so shares of 1/64 are exact in float32 too."""
    total = 1 << (sum(weights) - 1).bit_length()
    weights = [*weights, *([1] * (total - sum(weights)))]
    probs = torch.tensor([weights], dtype=torch.float32) / total
    kept = top_p_(probs.clone(), share / 64)[0]
    expected = kept_by_top_p(weights, Fraction(share, 64))
    assert torch.equal(kept, torch.where(torch.tensor(expected), probs[0], 0.0))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 600), st.sampled_from([0.1, 1.0, 4.0, 20.0]), st.floats(0.01, 0.999)
)
def test_top_p_of_smooth_distributions(seed, codes, sharpness, p):
    """Rounding may decide about a code on the threshold; every other code goes by the mass of likelier ones."""
    logits = sharpness * torch.randn(3, 2, codes, generator=torch.Generator().manual_seed(seed))
    probs = logits.softmax(-1)
    exact = probs.double()
    before = torch.where(exact[..., None, :] > exact[..., None], exact[..., None, :], 0).sum(-1)
    kept = top_p_(probs.clone(), p) > 0
    assert bool(kept[(before < p - 1e-5) & (probs > 0)].all())
    assert not bool(kept[before > p + 1e-5].any())
    assert bool(kept.any(-1).all())


@pytest.mark.parametrize("p", [0.0, 1e-30, 0.5, 1 - 1e-7, 0.99999994])
def test_the_likeliest_code_always_stays(p):
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1e-38, 1 - 1e-7, 1e-7]])
    kept = top_p_(probs.clone(), p)
    assert torch.equal(kept.amax(-1), probs.amax(-1))
    assert kept[0].tolist() == [1, 0, 0]
    assert kept[1].tolist() == [0.5, 0.5, 0], "equally likely codes stay together"


def test_filters_act_on_every_row_for_itself_and_nowhere_sort_the_vocabulary(monkeypatch):
    logits = torch.randn(4, 3, 64, generator=torch.Generator().manual_seed(1))
    for name in ("sort", "argsort", "msort"):
        monkeypatch.setattr(torch.Tensor, name, None, raising=False)
        monkeypatch.setattr(torch, name, None)
    at = Settings(temperature=0.7, top_k=9, top_p=0.8)
    whole = probabilities(logits.clone(), at)
    for i in range(4):
        for j in range(3):
            assert torch.equal(probabilities(logits[i, j].clone(), at), whole[i, j])
    assert int((whole > 0).sum(-1).max()) <= 9
    assert int((whole > 0).sum(-1).min()) >= 1


def test_order_of_the_filters_is_temperature_then_top_k_then_top_p():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    two = (logits[:, :2] / 2).softmax(-1)
    found = probabilities(logits.clone(), Settings(temperature=2.0, top_k=2, top_p=float(two[0, 0]) + 1e-3))
    assert torch.allclose(found, torch.cat([two, torch.zeros(1, 2)], 1))
    only = probabilities(logits.clone(), Settings(temperature=2.0, top_k=2, top_p=float(two[0, 0]) - 1e-3))
    assert only.count_nonzero() == 1
    loose = probabilities(logits.clone(), Settings(top_k=99, top_p=1.0))
    assert torch.allclose(loose, logits.softmax(-1))


def kept_by_sorting(logits, k, p):
    """What the published filter keeps of one row: top-k, a full sort, and the masses of the sorted codes."""
    least = logits.topk(min(k, len(logits))).values[-1]
    probs = logits.masked_fill(logits < least, -math.inf).softmax(-1)
    values = probs.double().sort(descending=True).values
    crossing = min(int((values.cumsum(0) <= p * values.sum()).sum()), len(values) - 1)
    kept = (probs > 0) & (probs.double() >= (values[crossing] if p < 1 else 0))
    return kept, probs * kept


def many(kind, rows=5, codes=9000):
    """Logits (rows, codes) as networks give them, or as they never should."""
    logits = 2 * torch.randn(rows, codes, generator=torch.Generator().manual_seed(3))
    if kind == "peaked":
        logits = torch.cat([6 * logits[:, :40] + 9, logits[:, 40:]], 1)
    return {
        "smooth": logits, "flat": logits / 10, "peaked": logits, "bfloat16": logits.bfloat16().float(),
        "few values": logits.round(), "equal": torch.zeros_like(logits), "far apart": 1 / logits,
        "some are impossible": logits.masked_fill(logits < 1, -math.inf),
        "one is possible": torch.full_like(logits, -math.inf).index_fill_(1, torch.tensor([7]), 2.0),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", [
    "smooth", "flat", "peaked", "bfloat16", "few values", "equal", "far apart", "some are impossible",
    "one is possible",
])  # fmt: skip
@pytest.mark.parametrize(
    ("k", "p"),
    [(2000, 0.9), (40, 0.5), (1, 0.9), (9000, 0.7), (0, 0.3), (700, 1.0), (10**6, 0.999), (3, 0.0)],
)
def test_many_codes_are_filtered_as_by_a_sort_of_all(kind, k, p, monkeypatch):
    logits = many(kind)
    assert large_vocabulary.pays(logits)
    settings = Settings(top_k=k, top_p=p)
    monkeypatch.setattr(large_vocabulary, "_AT_ONCE", 2 * 9000)  # so that the last part is a shorter one
    weights = probabilities(logits.clone(), settings)
    for row, found in zip(logits, weights, strict=True):
        kept, probs = kept_by_sorting(row, k or len(row), p)
        assert torch.equal(found > 0, kept)
        torch.testing.assert_close(found / found.sum(), probs / probs.sum(), rtol=1e-5, atol=0)
    logs = log_probabilities(logits.clone(), settings)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(len(logits)))


@settings(max_examples=100, deadline=None)
@given(LOGITS, st.integers(1, 30), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_the_way_of_many_codes_with_few(logits, k, p):
    logits = torch.tensor(logits)
    found = large_vocabulary.filter_(logits[None].clone(), k, p)[0]
    kept, probs = kept_by_sorting(logits, k, p)
    # Sums of a few codes may be a rounding apart from a threshold.
    cumulated = probs.double().sort(descending=True).values.cumsum(0)
    if p in (0.0, 1.0) or not bool(((cumulated - p).abs() < 1e-6).any()):
        assert torch.equal(found > 0, kept)


def test_many_codes_are_filtered_alike_in_any_batch():
    logits = many("smooth", rows=40)
    at = Settings(temperature=0.8, top_k=500, top_p=0.8)
    whole = probabilities(logits.clone().view(8, 5, -1), at)
    assert torch.equal(whole[3, 2], probabilities(logits[17:18].clone(), at)[0])


def test_many_codes_of_a_network_that_failed_are_filtered_without_an_error():
    logits, at = many("smooth"), Settings(top_k=40, top_p=0.9)
    whole = probabilities(logits.clone(), at)
    logits[1, 5] = math.nan
    found = probabilities(logits.clone(), at)
    assert bool(found[1].isnan().all())
    others = torch.tensor([0, 2, 3, 4])
    assert torch.equal(found[others], whole[others])
    assert bool(probabilities(torch.full((2, 9000), math.nan), at).isnan().all())
