"""The diffusion process, its solvers, the head's loss and MAR's masks, beside the recordings of tests/parity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.mar.network import MARConfig
from arzoo.samplers.solvers.diffusion import SOLVERS, process, stride
from arzoo.train.masking import masked_count

MEAN, DEVIATION = 0.6, 0.3


def gaussian(x, t):
    """The noise that a perfect network predicts where data is normal, and the share of the true posterior variance."""
    place = torch.tensor(float(t)).clamp(0, 999)
    alpha_bar = torch.from_numpy(process().alpha_bar)[place.long()]
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    noise = (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * MEAN) / variance
    return torch.cat([noise, torch.zeros_like(noise)], -1)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_reach_the_distribution_of_the_data(name):
    draws = Draws([3])
    x, at = draws.normal((1, 4000, 2)), Settings(head_steps=100, max_timestep=990)
    y = SOLVERS[name](gaussian, x, at, lambda: draws.normal(x.shape))
    assert abs(y.mean() - MEAN) < 0.03
    assert abs(y.std() - DEVIATION) < 0.03


def test_temperature_scales_the_noise_of_the_steps():
    draws, spread = Draws([3]), []
    for temperature in (0.0, 0.7, 1.0):
        x = Draws([4]).normal((1, 2000, 2))
        at = Settings(head_steps=50, max_timestep=990, temperature=temperature)
        spread.append(float(SOLVERS["ddpm"](gaussian, x, at, lambda x=x: draws.normal(x.shape)).std()))
    assert spread[0] < spread[1] < spread[2]


def test_ddim_draws_no_noise():
    def never():
        raise AssertionError("noise was drawn")

    for name in ("ddim", "dpm_solver"):
        x = torch.randn(1, 5, 2)
        assert not torch.equal(SOLVERS[name](gaussian, x, Settings(head_steps=4), never), x)


def test_strides():
    for count in (*range(1, 120), 333, 500, 501, 999, 1000):
        steps = stride(count)
        assert len(steps) == count
        assert set(np.diff(steps)) <= {steps[1] - steps[0] if count > 1 else 0}
        assert steps[-1] < 1000
    assert stride(5) == [0, 200, 400, 600, 800]
    assert process(50, 980, "stride").timesteps[-1] == 980


def test_tables_are_made_once():
    assert process(50, 950) is process(50, 950)
    assert process(50, 950) is not process(50)


def head(**changes):
    made = DiffusionMLPConfig(width=8, channels=3, hidden=16, depth=2, **changes).build()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def test_the_bound_is_the_divergence_of_two_gaussians():
    """Against torch's own divergence at later timesteps, and its likelihood at the first."""
    torch.manual_seed(0)
    made = head(repeats=50)
    features, targets = torch.randn(4, 30, 1, 8), torch.rand(4, 30, 3) * 1.8 - 0.9
    read = Read(torch.arange(30)[None], features)
    with torch.no_grad():
        error, bound = made.terms(read, targets, Draws([1, 2, 3, 4]))
        draws, full = Draws([1, 2, 3, 4]), process()
        t = draws.integers((4, 50, 30), 1000)
        noise = draws.normal((4, 50, 30, 3))
        a, before, beta = (
            torch.from_numpy(v)[t][..., None] for v in (full.alpha_bar, full.alpha_bar_before, full.beta)
        )
        x = a.sqrt() * targets[:, None] + (1 - a).sqrt() * noise
        prepared = made.condition(features[:, :, 0])[:, None] + made.time(t)
        e, v = made._denoise(x.float(), prepared).double().chunk(2, -1)
    assert torch.allclose(error.double(), (noise - e).square().mean(-1), rtol=1e-4)

    def mean(data):
        return before.sqrt() * beta / (1 - a) * data + (1 - before) * (1 - beta).sqrt() / (1 - a) * x

    small = (beta * (1 - before) / (1 - a)).clamp(min=float(np.exp(full.log_posterior[0])))
    deviation = torch.exp(0.5 * ((v + 1) / 2 * beta.log() + (1 - v) / 2 * small.log()))
    predicted = torch.distributions.Normal(mean((x - (1 - a).sqrt() * e) / a.sqrt()), deviation)
    true = torch.distributions.Normal(mean(targets[:, None]), small.sqrt())
    want = torch.distributions.kl_divergence(true, predicted).mean(-1) / math.log(2)
    later = t > 20  # there the divergence is well above float32's rounding
    assert torch.allclose(bound[later].double(), want[later], rtol=2e-3, atol=1e-5)
    first = t == 0
    assert first.any()
    edges = [predicted.cdf(targets[:, None] + edge / 255) for edge in (1, -1)]
    likelihood = (edges[0] - edges[1]).clamp(min=1e-12).log().mean(-1) / math.log(2)
    assert torch.allclose(bound[first].double(), -likelihood[first], atol=0.1)


def test_the_bound_does_not_train_the_noise():
    made, read = head(), Read(torch.arange(5)[None], torch.randn(2, 5, 1, 8))
    _, bound = made.terms(read, torch.randn(2, 5, 3), Draws([1, 2]))
    bound.mean().backward()
    noise, variance = made.output.weight.grad.chunk(2)
    assert not noise.any()
    assert variance.any()


def test_many_times_are_embedded_once_each():
    made = head(repeats=3)
    few, many = torch.arange(6).view(1, 2, 3), torch.randint(0, 1000, (4, 50, 6))
    assert torch.equal(made._times(few), made.time(few))
    assert torch.allclose(made._times(many), made.time(many), atol=1e-6)
    rows = []
    made.time.fc1.register_forward_hook(lambda layer, inputs, out: rows.append(inputs[0].shape[:-1].numel()))
    made._times(many)
    assert rows == [1000]


def test_time_is_embedded_once_a_solver_step():
    made, rows = head(head_steps=4), []
    read = made.prepare(Read(torch.arange(5)[None], torch.randn(2, 5, 1, 8)))
    made.time.fc1.register_forward_hook(lambda layer, inputs, out: rows.append(inputs[0].shape[:-1].numel()))
    made.condition.register_forward_hook(lambda *_: pytest.fail("the features were projected again"))
    made.sample(lambda x, t: made.predict(read, x, t), read, Settings(max_timestep=950), Draws([1, 2]))
    assert rows == [1, 1, 1, 1]


def test_guidance_mixes_noise_and_keeps_the_conditional_variance():
    made = head()
    conditional, null = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    mixed = made.guide(conditional, null, 3.0)
    assert torch.equal(mixed[..., 3:], conditional[..., 3:])
    assert torch.allclose(mixed[..., :3], null[..., :3] + 3 * (conditional - null)[..., :3])


def test_a_loss_without_draws_is_a_mistake():
    with pytest.raises(TypeError, match="draws"):
        head().loss(Read(torch.arange(5)[None], torch.randn(2, 5, 1, 8)), torch.randn(2, 5, 3))


def test_mask_ratio_is_a_truncated_normal():
    scipy_stats = pytest.importorskip("scipy.stats")
    uniform = np.linspace(0.001, 0.999, 41)
    ratio = scipy_stats.truncnorm(-0.3 / 0.25, 0, loc=1, scale=0.25).ppf(uniform)
    assert [masked_count(float(u), 256) for u in uniform] == [math.ceil(256 * r) for r in ratio]
    assert masked_count(1 - 1e-16, 64) == 64
    assert masked_count(1e-16, 10) == 7
    assert [masked_count(1e-16, 10, lowest) for lowest in (0.7, 0.4, 0.1, 0.0)] == [7, 4, 1, 1]
    assert np.mean([masked_count(float(u), 1000, 0.1) for u in uniform]) < 700


def mar(**changes):
    sizes = {"width": 16, "depth": 2, "heads": 2, "channels": 3, "grid": (1, 3, 4), "classes": 4, "buffer": 2}
    return MARConfig(**(sizes | changes)).build().eval()


def test_unequal_numbers_of_known_tokens_do_not_mix():
    """A row that knows fewer is padded; its features are those it has alone."""
    backbone, values = mar(), torch.randn(3, 12, 3)
    known = torch.rand(3, 12, generator=torch.Generator().manual_seed(0)) < torch.tensor(
        [[0.2], [0.5], [0.9]]
    )
    cond = Cond(3, label=torch.tensor([0, 1, 2]))
    with torch.no_grad():
        together = backbone.features(Tokens.of(values, known), cond, None).features
        for i in range(3):
            row = slice(i, i + 1)
            alone = backbone.features(
                Tokens.of(values[row], known[row]), cond.select(torch.tensor([i])), None
            )
            assert torch.allclose(together[row], alone.features, atol=1e-5)


def test_unknown_tokens_are_not_seen_and_a_dropped_class_is_the_null():
    backbone, values = mar(), torch.randn(2, 12, 3)
    known = torch.arange(12).expand(2, -1) < 5
    label = torch.tensor([1, 1])
    with torch.no_grad():
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.2)

        def features(values, cond):
            return backbone.features(Tokens.of(values, known), cond, None).features

        seen = features(values, Cond(2, label=label))
        assert torch.equal(seen, features(values.masked_fill(~known[..., None], 9.0), Cond(2, label=label)))
        assert not torch.allclose(
            seen, features(values.masked_fill(known[..., None], 9.0), Cond(2, label=label))
        )
        nothing = features(values, Cond(2))
        assert torch.equal(
            nothing, features(values, Cond(2, label=label, drop=torch.ones(2, dtype=torch.bool)))
        )
        assert torch.equal(nothing, features(values, Cond(2, label=torch.tensor([-1, -1]))))
        assert not torch.allclose(nothing, seen)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, "width 16 is not a multiple of 3 heads"),
        ({"decoder_width": 20, "decoder_heads": 8}, "width 20 is not a multiple of 8 heads"),
        ({"vocab": 7}, "channels=3, vocab=7"),
        ({"buffer": 0}, "at least 1 buffer token"),
    ],
)
def test_sizes_that_cannot_be(changes, words):
    with pytest.raises(ArzooError, match=words):
        mar(**changes)
