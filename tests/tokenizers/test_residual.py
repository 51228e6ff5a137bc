"""Residual VQ in training: codes as running averages, restarts of unused codes, levels dropped by sample."""

from __future__ import annotations

import copy

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.tokenizers.quantizers.averages import EPSILON
from arzoo.tokenizers.quantizers.residual import ResidualVQ
from arzoo.train.noise import SampleNoise

DECAY = 0.9


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("shared", [False, True])
def test_codes_are_running_averages_of_what_they_quantize(shared):
    quantizer, z = ResidualVQ(5, 3, 2, shared, decay=DECAY), torch.randn(40, 3)
    before = quantizer.codebooks.clone()
    codes = quantizer(z).codes
    assert torch.equal(quantizer.codebooks, before), "only the end of a step changes codes"
    quantizer.end_step()
    rest = z.clone()
    sizes, sums = torch.full(before.shape[:2], DECAY), DECAY * before
    for level in range(2):
        book = 0 if shared else level
        for row, code in enumerate(codes[:, level].tolist()):
            sizes[book, code] += 1 - DECAY
            sums[book, code] += (1 - DECAY) * rest[row]
        rest = rest - before[book][codes[:, level]]
    total = sizes.sum(1, keepdim=True)
    expected = sums / ((sizes + EPSILON) / (total + 5 * EPSILON) * total)[..., None]
    torch.testing.assert_close(quantizer.codebooks, expected, atol=1e-6, rtol=1e-5)


def test_averages_do_not_depend_on_micro_batches():
    whole, z = ResidualVQ(8, 3, 2, decay=DECAY), torch.randn(40, 3)
    cut = copy.deepcopy(whole)
    whole(z)
    for part in z.split(7):
        cut(part)
    for quantizer in (whole, cut):
        quantizer.end_step()
    torch.testing.assert_close(cut.codebooks, whole.codebooks)
    after = whole.codebooks.clone()
    whole.end_step()
    assert torch.equal(whole.codebooks, after), "a step without vectors changes nothing"
    whole.eval()(z)
    whole.end_step()
    assert torch.equal(whole.codebooks, after), "nor does evaluation"


def test_averages_bring_codes_nearer_without_gradients():
    quantizer, z = ResidualVQ(16, 4, 3, decay=0.5), torch.randn(300, 4)
    assert not list(quantizer.parameters())
    errors = []
    for _ in range(30):
        quantized = quantizer(z)
        errors.append(float((quantized.vectors - z).square().mean()))
        quantizer.end_step()
    assert errors[-1] < 0.7 * errors[0]
    assert quantized.losses.keys() == {"commitment"}


def test_levels_that_a_vector_drops_are_not_averaged():
    quantizer, z = ResidualVQ(8, 3, 2, decay=DECAY), torch.randn(40, 3)
    quantizer(z, torch.ones(40, dtype=torch.long))
    quantizer.end_step()
    assert torch.equal(quantizer.averages.sizes[1], torch.full((8,), DECAY))
    assert float(quantizer.averages.sizes[0].sum()) == pytest.approx(DECAY * 8 + (1 - DECAY) * 40)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("shared", [False, True])
def test_seeding_puts_all_codes_onto_what_their_levels_quantize(shared, decay):
    quantizer, z = ResidualVQ(32, 4, 4, shared, decay=decay), torch.randn(500, 4) + 7
    books = len(quantizer.codebooks)
    assert quantizer.restart(z, generator(), everything=True) == list(range(32 * books))
    with torch.no_grad():
        quantized = quantizer(z)
    assert float((quantized.vectors - z).square().mean()) < 0.35
    assert quantizer.health()["codes_used"] > 24
    sums = [quantizer.lookup(quantized.codes[:, :q]).detach() for q in (1, 2, 3, 4)]
    errors = [float((part - z).square().mean()) for part in sums]
    assert errors == sorted(errors, reverse=True)
    assert len(quantizer.codebooks.detach().flatten(0, 1).unique(dim=0)) == 32 * books


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_a_restart_moves_unused_codes_only(decay):
    quantizer, z = ResidualVQ(16, 4, 2, decay=decay), torch.randn(300, 4)
    quantizer.restart(z, generator(), everything=True)
    with torch.no_grad():
        quantizer.codebooks[1, 5] += 100  # far from everything
    for _ in range(2):
        quantizer(z)
    before = quantizer.codebooks.detach().clone()
    unused = (quantizer.usage() == 0).flatten().nonzero()[:, 0].tolist()
    assert 21 in unused
    assert quantizer.restart(z, generator()) == unused
    changed = (quantizer.codebooks.detach() != before).any(-1).flatten().nonzero()[:, 0].tolist()
    assert changed == unused
    assert float(quantizer.codebooks[1, 5].detach().norm()) < 10
    if decay:
        torch.testing.assert_close(quantizer.averages.sums[1, 5], quantizer.codebooks[1, 5])


def test_the_record_tells_levels_apart():
    quantizer = ResidualVQ(4, 1, 2)
    with torch.no_grad():
        quantizer.codebooks.copy_(torch.tensor([[-1.0, 0, 1, 2], [50, -0.1, 0.1, 90]])[..., None])
    quantizer(torch.tensor([[-1.1], [0.9], [1.1]]))
    torch.testing.assert_close(quantizer.usage(), torch.tensor([[1, 0, 2, 0], [0, 2, 1, 0]]) / 3)
    assert quantizer.health()["codes_used"] == 2


def test_levels_are_dropped_by_sample():
    quantizer, z = ResidualVQ(16, 4, 4, dropout=0.7), torch.randn(3, 20, 4)

    def vectors(*rows):
        torch.manual_seed(3)
        with SampleNoise(Draws([10 + row for row in rows])):
            return quantizer(z[list(rows)]).vectors

    torch.testing.assert_close(vectors(0, 1, 2), torch.cat([vectors(row) for row in range(3)]))
    assert not torch.equal(vectors(0), quantizer.eval()(z[:1]).vectors)


@pytest.mark.parametrize(
    "wrong",
    [{"levels": 0}, {"levels": 2, "dropout": 1.5}, {"levels": 2, "decay": 1.0}, {"levels": 2, "decay": -0.1}],
)
def test_what_residual_vq_refuses(wrong):
    with pytest.raises(
        ArzooError, match="at least 1 level, a dropout from 0 to 1 and a decay from 0 to below 1"
    ):
        ResidualVQ(8, 4, **wrong)


def test_losses_are_means_over_kept_levels_and_vectors():
    quantizer, z = ResidualVQ(16, 4, 3), torch.randn(6, 4)
    keep = torch.tensor([1, 1, 2, 2, 3, 3])
    quantized = quantizer(z, keep)
    each = [
        sum(float((quantizer.lookup(codes[: q + 1]) - row).square().mean()) for q in range(count)) / count
        for row, codes, count in zip(z, quantized.codes, keep.tolist(), strict=True)
    ]
    for loss in quantized.losses.values():
        assert float(loss.detach()) == pytest.approx(sum(each) / 6, rel=1e-5)
    halves = [
        quantizer(part, few).losses["commitment"] for part, few in zip(z.split(3), keep.split(3), strict=True)
    ]
    torch.testing.assert_close(sum(halves) / 2, quantized.losses["commitment"])
