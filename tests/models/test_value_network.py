"""The network of value models: what training computes for whole runs is what a search computes group by group."""

import pytest
import torch

from arzoo.base.errors import ArzooError
from arzoo.models.value.network import ValueConfig

KINDS = {
    "codes": {"vocab": 9},
    "codebooks": {"vocab": 9, "codebooks": 2},
    "vectors": {"vocab": 0, "channels": 3},
}


def network(kind, target="score"):
    torch.manual_seed(0)
    net = ValueConfig(width=6, steps=4, hidden=8, depth=1, target=target, **KINDS[kind]).build().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        net.mean.fill_(2.0)
        net.deviation.fill_(3.0)
        net.slope.copy_(torch.rand(4) + 0.5)
        net.offset.copy_(torch.randn(4) / 10)
    return net


def run(kind, batch=5, positions=7):
    """Tokens of runs with groups of 1 to 3 tokens; the last position of the last run is not drawn."""
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(batch, positions, 6, generator=rng)
    values = {
        "codes": torch.randint(0, 9, (batch, positions), generator=rng),
        "codebooks": torch.randint(0, 9, (batch, positions, 2), generator=rng),
        "vectors": torch.randn(batch, positions, 3, generator=rng),
    }[kind]
    steps = torch.tensor([0, 1, 1, 2, 2, 2, 3], dtype=torch.int16).repeat(batch, 1)
    steps[0] = steps[0].flip(0)
    steps[-1, -1] = -1
    return features, values, steps


@pytest.mark.parametrize("target", ["score", "length"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_runs_and_single_groups_have_the_same_values(kind, target):
    net, (features, values, steps) = network(kind, target), run(kind)
    whole = net.slope * net.uncalibrated(net(features, values, steps)) + net.offset
    for row, k in ((0, 0), (0, 2), (1, 0), (2, 2), (4, 1)):
        group = (steps[row] == k).nonzero()[:, 0]
        alone = net.value(features[row : row + 1, group], values[row : row + 1, group], k)
        assert alone.shape == (1,)
        assert torch.allclose(alone, net.of_units(whole[row, k])[None], atol=1e-5)
    rest = net(features, values, steps)
    features[-1, -1] = 100
    assert torch.equal(net(features, values, steps), rest), "what was not drawn has no effect"


def test_fresh_networks_predict_the_mean():
    net = ValueConfig(width=6, steps=4, vocab=9).build().eval()
    net.mean.fill_(2.0)
    features, values, steps = run("codes")
    assert net.value(features[:, :1], values[:, :1], 0).tolist() == [2.0] * 5
    targets = torch.full((5, 4), 5.0)
    net.deviation.fill_(3.0)
    assert torch.allclose(net.loss(net(features, values, steps), targets), torch.ones(5, 4))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"vocab": 9, "channels": 3}, "vectors or codes"),
        ({"steps": 0}, "steps"),
        ({"gamma": 0.0}, "discount"),
    ],
)
def test_wrong_sizes_are_refused(sizes, words):
    with pytest.raises(ArzooError, match=words):
        ValueConfig(**sizes)
