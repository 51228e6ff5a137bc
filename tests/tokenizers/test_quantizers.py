"""FSQ, LFQ and residual VQ: every code round-trips, gradients pass, precision around them changes nothing."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.tokenizers.quantizers.fsq import FSQ
from arzoo.tokenizers.quantizers.lfq import LFQ
from arzoo.tokenizers.quantizers.residual import ResidualVQ, nearest

VARIANTS = [
    {"eps": eps, "shift": shift, "first": first}
    for eps, shift in ((1e-3, "atanh"), (-1e-3, "tan"), (1e-3, "none"), (-1e-3, "none"))
    for first in ("fastest", "slowest")
]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("levels", [(3,), (8, 5), (4, 3, 5), (8, 6, 5)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_code_of_fsq_round_trips(levels, variant):
    quantizer = FSQ(levels, **variant).eval()
    codes = torch.arange(quantizer.vocab)
    vectors = quantizer.lookup(codes)
    assert len(vectors.unique(dim=0)) == quantizer.vocab == math.prod(levels)
    # The point in front of the squashing that lands on each level.
    middle = torch.tensor(quantizer.levels) // 2
    offset, span, shift = map(torch.tensor, (quantizer.offsets, quantizer.spans, quantizer.shifts))
    inner = ((vectors * middle + offset) / span).clamp(-1 + 1e-6, 1 - 1e-6)
    quantized = quantizer(torch.atanh(inner) - shift)
    assert torch.equal(quantized.codes, codes)
    torch.testing.assert_close(quantized.vectors, vectors)


def test_order_of_the_digits_of_fsq():
    fastest, slowest = FSQ((8, 8, 8, 5, 5, 5)), FSQ((3, 5), first="slowest")
    assert fastest.basis == [1, 8, 64, 512, 2560, 12800]
    assert slowest.basis == [5, 1]
    assert fastest.lookup(torch.tensor([0, 63999])).tolist() == [[-1.0] * 6, [0.75, 0.75, 0.75, 1, 1, 1]]


def test_published_formulas_of_fsq_differ_in_two_percent_of_codes():
    z = torch.randn(20000, 6)
    levels = (8, 8, 8, 5, 5, 5)
    flextok, nbp = FSQ(levels)(z).codes, FSQ(levels, eps=-1e-3, shift="tan")(z).codes
    assert 0.01 < float((flextok != nbp).float().mean()) < 0.03


def test_casting_the_network_does_not_round_the_constants_of_fsq():
    z = torch.randn(2000, 3).bfloat16()
    assert torch.equal(FSQ((8, 6, 5)).bfloat16()(z).codes, FSQ((8, 6, 5))(z).codes)


@pytest.mark.parametrize("levels", [(), (1, 5), (4096, 4097)])
def test_fsq_refuses_levels_that_make_no_codes(levels):
    with pytest.raises(ArzooError, match="levels"):
        FSQ(levels)


@pytest.mark.parametrize("first", ["lowest", "highest"])
def test_every_code_of_lfq_round_trips(first):
    quantizer = LFQ(7, first).eval()
    codes = torch.arange(128)
    assert torch.equal(quantizer(quantizer.lookup(codes) * 0.3).codes, codes)
    bit = quantizer.lookup(torch.tensor(1)).argmax()
    assert bit == (0 if first == "lowest" else 6)


def test_entropy_of_lfq_is_that_of_all_codes_where_channels_are_independent():
    quantizer, z = LFQ(4, temperature=1.0), torch.randn(1, 4) * 0.3
    table = quantizer.lookup(torch.arange(16))
    p = (-(z - table).square().sum(-1)).softmax(-1)
    entropy = torch.special.entr(p).sum()
    # One vector: its entropy and that of the mean are the same.
    assert quantizer.entropy(z) == pytest.approx(0, abs=1e-6)
    bits = torch.sigmoid(4 * z)
    assert float((torch.special.entr(bits) + torch.special.entr(1 - bits)).sum()) == pytest.approx(
        float(entropy), rel=1e-5
    )
    spread = quantizer.entropy(torch.tensor([[1.0] * 4, [-1.0] * 4]))
    assert spread < 0  # decided places, evenly used codes


@pytest.mark.parametrize("shared", [False, True])
def test_residual_levels_lower_the_error(shared):
    quantizer, z = ResidualVQ(64, 4, 4, shared).eval(), torch.randn(500, 4) * 0.2
    quantized = quantizer(z)
    assert quantized.codes.shape == (500, 4)
    errors = [float((quantizer.lookup(quantized.codes[:, :q]) - z).square().mean()) for q in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    torch.testing.assert_close(quantizer.lookup(quantized.codes), quantized.vectors)


def test_kept_levels_are_the_first_ones():
    quantizer, z = ResidualVQ(16, 4, 3), torch.randn(6, 4)
    keep = torch.tensor([1, 1, 2, 2, 3, 3])
    quantized = quantizer(z, keep)
    for row, count in enumerate(keep.tolist()):
        torch.testing.assert_close(quantized.vectors[row], quantizer.lookup(quantized.codes[row, :count]))


def test_residual_dropout_acts_in_training_only():
    quantizer, z = ResidualVQ(16, 4, 4, dropout=1.0), torch.randn(200, 4)
    whole = quantizer.eval()(z).vectors
    cut = quantizer.train()(z).vectors
    same = (whole == cut).all(-1).float().mean()
    assert 0.1 < float(same) < 0.5  # a quarter keeps all four


def test_residual_codebooks_learn():
    quantizer, z = ResidualVQ(32, 4, 2), torch.randn(400, 4)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.02)
    losses = []
    for _ in range(60):
        loss = quantizer(z).losses["codebook"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]


def test_nearest_code_far_from_the_origin():
    table = torch.randn(512, 8) * 1e-2 + 50
    vectors = table + torch.randn_like(table) * 1e-3
    exact = torch.cdist(vectors.double(), table.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(
        1
    )
    assert torch.equal(nearest(vectors, table), exact)


@pytest.mark.parametrize("make", [lambda: FSQ((5, 5, 4)), lambda: LFQ(3), lambda: ResidualVQ(16, 3, 2)])
def test_what_all_quantizers_promise(make):
    quantizer, z = make(), torch.randn(2, 7, 3, requires_grad=True)
    quantized = quantizer(z)
    assert quantized.vectors.shape == z.shape
    assert quantized.codes.dtype == torch.int64
    assert quantized.codes.shape[:2] == (2, 7)
    assert int(quantized.codes.max()) < quantizer.vocab
    (gradient,) = torch.autograd.grad(quantized.vectors.sum(), z)
    assert (gradient > 0).all()  # straight through (a squashing in between keeps the sign)
    with torch.autocast("cpu", torch.bfloat16):
        around = quantizer.eval()(z)
    assert around.vectors.dtype == torch.float32
    assert torch.equal(around.codes, quantized.codes)
    health = quantizer.health()
    assert 0 < health["codes_used"] <= quantizer.vocab
    assert 1 <= health["codebook_perplexity"] <= health["codes_used"] + 1e-3
    assert quantized.figures([quantized, around])["perplexity"] >= 1
    learns = isinstance(quantizer, ResidualVQ)
    assert any("recent" in name for name in quantizer.state_dict()) == learns


@pytest.mark.parametrize("first", ["lowest", "highest"])
def test_lfq_of_vector_quantize_pytorch_puts_the_first_channel_highest(first):
    theirs = pytest.importorskip("vector_quantize_pytorch").LFQ(dim=5, codebook_size=32).eval()
    z = torch.randn(2, 40, 5)
    codes = LFQ(5, first).eval()(z).codes
    assert torch.equal(codes, theirs(z).indices.long()) == (first == "highest")


PAIRS = list(itertools.product(((8, 5, 5), (7, 5, 3)), (True, False)))


@pytest.mark.parametrize(("levels", "even"), PAIRS)
def test_fsq_agrees_with_vector_quantize_pytorch(levels, even):
    """Its FSQ is the atanh variant, first channel fastest. Codes go through float32 there."""
    theirs = pytest.importorskip("vector_quantize_pytorch").FSQ(list(levels))
    z = torch.randn(3, 100, 3) * (1 if even else 3)
    vectors, codes = theirs(z)
    ours = FSQ(levels).eval()(z)
    assert torch.equal(ours.codes, codes.long())
    torch.testing.assert_close(ours.vectors, vectors)
