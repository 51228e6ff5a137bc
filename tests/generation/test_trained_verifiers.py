"""Verifiers that are trained on first use: class probe and realism."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from command import CLASSES
from tiny_net import TinyNet

from arzoo.base import registry
from arzoo.base.errors import UnknownName
from arzoo.data.base import ImageSet
from arzoo.generation.verifiers import class_probe, realism
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.generation.verifiers.probe import Probe, ProbeConfig, train_probe
from arzoo.models.vision.features import feature_net
from arzoo.samplers.verifiers.base import Subject


def coloured():
    """Ten coloured squares of three classes; the last two are held out."""
    labels = torch.arange(10) % 3
    colours = torch.tensor([[200, 20, 20], [20, 200, 20], [20, 20, 200]])
    return ImageSet(
        name="squares",
        images=colours[labels][:, None, None].expand(10, 16, 16, 3).to(torch.uint8),
        labels=labels,
        classes=CLASSES,
        held_out=torch.arange(10) >= 8,
        captions=tuple(("Red", "green", "blue")[label] for label in labels),
    )


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A tiny feature network, a data set, and a cache of their own."""
    for kind in ("feature_net", "dataset", "verifier"):
        registry.names(kind)
    monkeypatch.setitem(registry._entries["feature_net"], "tiny", lambda path=None: TinyNet())
    monkeypatch.setitem(registry._entries["dataset"], "squares", coloured)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    for module in (class_probe, realism):
        monkeypatch.setattr(module, "ProbeConfig", partial(ProbeConfig, lr=0.05))
    forget()
    yield
    forget()


def forget():
    class_probe._names.cache_clear()
    class_probe._trained.cache_clear()
    realism._trained.cache_clear()
    feature_net.cache_clear()


def probe(**subject):
    return open_verifier("class_probe", Subject(**subject), data="squares", net="tiny")


def test_a_probe_tells_classes_and_follows_its_seed():
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (300,), generator=rng)
    features = torch.randn(300, 20, generator=rng) + 5 * torch.eye(20)[labels]
    config = ProbeConfig(lr=0.01, batch=32)
    state = torch.get_rng_state()
    one = train_probe(features[:200], labels[:200], 3, config)
    assert torch.equal(torch.get_rng_state(), state)
    log_probs = one(features[200:])
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(100))
    assert (log_probs.argmax(1) == labels[200:]).double().mean() > 0.9
    again = train_probe(features[:200], labels[:200], 3, config)
    assert torch.equal(again(features), one(features))
    other = train_probe(features[:200], labels[:200], 3, config.replace(seed=1))
    assert not torch.equal(other(features), one(features))
    shifted = Probe(20, 3)
    shifted.load_state_dict(one.state_dict())
    assert torch.equal(shifted(features), one(features)), "mean and deviation are kept"


def test_the_class_of_a_picture_is_the_likeliest(tmp_path, capsys):
    data = coloured()
    scores = torch.stack([probe(label=name).score_images(data.images) for name in CLASSES], 1)
    assert scores.max() <= 0
    assert (scores.argmax(1) == data.labels).all()
    (file,) = (tmp_path / "cache" / "verifiers").iterdir()
    assert file.name.startswith("class_probe-")
    assert capsys.readouterr().err.count("training verifier 'class_probe'") == 1
    forget()
    assert torch.equal(probe(label=CLASSES[0]).score_images(data.images), scores[:, 0]), "read from the cache"
    assert probe(label=CLASSES[0]).networks == {"tiny"}


def test_a_prompt_stands_for_the_classes_of_its_drawings(monkeypatch):
    data = coloured()
    by_class = probe(label=CLASSES[0]).score_images(data.images)
    assert torch.equal(probe(prompt="red").score_images(data.images), by_class)
    both = replace(data, captions=("red",) * 10)
    monkeypatch.setitem(registry._entries["dataset"], "squares", lambda: both)
    forget()
    torch.testing.assert_close(probe(prompt="red").score_images(data.images), torch.zeros(10))
    with pytest.raises(UnknownName, match=r"unknown caption 'redd'.*'red'.*only the captions of"):
        probe(prompt="redd")
    with pytest.raises(UnknownName, match="unknown class"):
        probe(label="nothing")


def test_damage_is_told_from_the_real():
    rng = torch.Generator().manual_seed(3)
    images = coloured().images.repeat(6, 1, 1, 1)
    spoiled = realism.damaged(images, rng)
    assert spoiled.shape == images.shape
    assert spoiled.dtype == torch.uint8
    assert not torch.equal(spoiled, images)
    edged = images.clone()
    edged[:, 4:12, 4:12] = 255
    ways = realism.damaged(edged, torch.Generator().manual_seed(0)).float() - edged.float()
    assert (ways.flatten(1).abs().sum(1) > 0).float().mean() > 0.6, "most are changed"
    verifier = open_verifier("realism", Subject(), data="squares", net="tiny")
    assert verifier.score_images(images).mean() > verifier.score_images(spoiled).mean()


def test_squeezenet_is_a_feature_network():
    net = feature_net("squeezenet")
    images = torch.randint(256, (3, 20, 24, 3), dtype=torch.uint8)
    pooled = net(images).pooled
    assert pooled.shape == (3, net.width)
    assert len(net.sha256) == 64
    torch.testing.assert_close(net(images[1:]).pooled, pooled[1:], rtol=1e-4, atol=1e-4)
