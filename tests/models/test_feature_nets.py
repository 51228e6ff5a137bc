"""Feature networks beside the default one: those of files on this machine, with random weights here."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from command import picture
from tiny_net import TinyNet
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance
from torchvision.models import inception_v3 as torchvision_inception

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.data.pictures import FolderPictures
from arzoo.metrics.bank import measure
from arzoo.metrics.comparison import Comparison, figures
from arzoo.metrics.reference import save_statistics, stored_statistics
from arzoo.models.vision import inception
from arzoo.models.vision.features import feature_net, packaged_effnet, read_pickle
from arzoo.models.vision.resize import resize_clean, resize_tf1


class Pooled(nn.Module):
    """Our features for torchmetrics, which wants a network of pictures (B, 3, H, W)."""

    def __init__(self, net: nn.Module, what: str) -> None:
        super().__init__()
        self.net, self.what, self.num_features = net, what, net.width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return getattr(self.net(images.permute(0, 2, 3, 1)), self.what)


def test_figures_of_pictures_are_those_of_torchmetrics(tmp_path):
    """The whole way from files to figures, against torchmetrics with the same network."""
    net, sets = TinyNet().eval(), []
    for name, first in (("samples", 0), ("reference", 500)):
        (tmp_path / name).mkdir()
        for i in range(60):
            picture(tmp_path / name / f"{i:03d}.png", (4, 4), seed=first + i)
        sets.append(FolderPictures(tmp_path / name))
    samples, reference = (measure(pictures, net, 7) for pictures in sets)
    ours, _ = figures(Comparison(net, samples, reference, replicates=0), ("fd", "kid", "is"), strict=True)
    theirs = {
        "fd_tiny": FrechetInceptionDistance(feature=Pooled(net, "pooled"), antialias=False),
        "kid_tiny": KernelInceptionDistance(feature=Pooled(net, "pooled"), subsets=1, subset_size=60),
        "is_tiny": InceptionScore(feature=Pooled(net, "logits"), splits=1),
    }
    for name, metric in theirs.items():
        for pictures, real in zip(sets, (False, True), strict=True):
            images = pictures.read(range(60)).permute(0, 3, 1, 2)
            if name == "is_tiny" and not real:
                metric.update(images)
            elif name != "is_tiny":
                metric.update(images, real=real)
    assert ours["fd_tiny"].value == pytest.approx(float(theirs["fd_tiny"].compute()), rel=1e-5)
    assert ours["kid_tiny"].value == pytest.approx(float(theirs["kid_tiny"].compute()[0]), rel=1e-4)
    from arzoo.metrics.scores.inception_score import inception_score

    assert inception_score(samples.logits, splits=1) == pytest.approx(
        float(theirs["is_tiny"].compute()[0]), rel=1e-5
    )


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights under the names of the published file."""
    torch.manual_seed(0)
    net = torchvision_inception(
        weights=None, num_classes=1008, aux_logits=False, transform_input=False, init_weights=False
    )
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.mark.slow
def test_inception(inception_file, monkeypatch, tmp_path):
    net = inception.Inception(str(inception_file)).eval()
    images = torch.randint(
        0, 256, (3, 40, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    seen = {}
    for name in ("Mixed_5b", "Mixed_7b", "Mixed_7c", "Mixed_6d"):
        getattr(net.net, name).register_forward_hook(
            lambda m, x, y, name=name: seen.update({name: (m, x[0], y)})
        )
    found = net(images)
    assert [tuple(part.shape) for part in found] == [(3, 2048), (3, 1008), (3, 17 * 17 * 7)]
    weight = torch.load(inception_file, weights_only=True)["fc.weight"]
    torch.testing.assert_close(found.logits, found.pooled @ weight.T)
    with torch.inference_mode():
        for name, pool in (
            ("Mixed_5b", lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
            ("Mixed_7b", lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
            ("Mixed_7c", lambda x: F.max_pool2d(x, 3, 1, 1)),
        ):
            block, x, y = seen[name]
            monkeypatch.setattr(block.branch_pool, "_forward_pre_hooks", {})
            by_hand = block.branch_pool(pool(x))
            torch.testing.assert_close(y[:, -by_hand.shape[1] :], by_hand)
            assert not torch.allclose(by_hand, block.branch_pool(F.avg_pool2d(x, 3, 1, 1)))
        monkeypatch.undo()
        block, x, _ = seen["Mixed_6d"]
        flat = block.branch1x1(x)[:3, :7].permute(0, 2, 3, 1).reshape(3, -1)
    torch.testing.assert_close(found.spatial, flat)

    # Other weights than the published ones make no FID; statistics that do not name their network need those.
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            picture(tmp_path / name / f"{i}.png", seed=ord(name) + 9 * i)
    sets = [measure(FolderPictures(tmp_path / name), net) for name in ("a", "b")]
    assert list(figures(Comparison(net, *sets, 0), ("is",), True)[0]) == ["is_inception_v3"]
    assert [Comparison(net, *sets).name(name) for name in ("fd", "sfd")] == [
        "fd_inception_v3",
        "sfd_inception_v3",
    ]
    save_statistics(tmp_path / "s.npz", sets[0], net)
    assert stored_statistics(tmp_path / "s.npz", net).spatial.mean.shape == (2023,)
    monkeypatch.setattr(inception, "PUBLISHED", file_sha256(inception_file)[:8])
    standard = inception.Inception(str(inception_file))
    assert [Comparison(standard, *sets).name(name) for name in ("fd", "sfd", "is")] == ["fid", "sfid", "is"]


@pytest.mark.slow
def test_inception_is_the_network_of_torch_fidelity(inception_file):
    published = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3"
    ).FeatureExtractorInceptionV3
    names = ["2048", "logits_unbiased"]
    theirs = published("inception", names, feature_extractor_weights_path=str(inception_file))
    images = torch.randint(
        0, 256, (2, 70, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = inception.Inception(str(inception_file))(images)
    with torch.inference_mode():
        pooled, logits = theirs(images.permute(0, 3, 1, 2))
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_ways_to_read_pictures(inception_file):
    """What the network is given by each, from the formulas of the resizes that tests/models/test_resize.py checks."""
    images = torch.randint(
        0, 256, (2, 70, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    x, seen = images.permute(0, 3, 1, 2).float(), {}
    for kind in (inception.Inception, inception.HalfPixelInception, inception.CleanInception):
        net = feature_net(kind.name, str(inception_file))
        assert type(net) is kind
        assert (net.width, net.spatial_width) == tuple(part.shape[1] for part in net(images)[::2])
        seen[kind.name] = net.inputs(x)
    wanted = {
        "inception_v3": (resize_tf1(x, 299, 299) - 128) / 128,
        "inception_v3_half_pixel": 2 * F.interpolate(x / 255, (299, 299), mode="bilinear") - 1,
        "inception_v3_clean": (resize_clean(x, 299, 299) - 128) / 128,
    }
    for name, inputs in wanted.items():
        torch.testing.assert_close(seen[name], inputs)
        assert all(float((inputs - other).abs().mean()) > 0.01 for key, other in seen.items() if key != name)


def test_a_file_of_other_weights_is_refused(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(b"no weights")
    for name in ("inception_v3", "effnet_lite0"):
        with pytest.raises(ArzooError, match="does not hold"):
            feature_net(name, str(tmp_path / "x.pth"))
        with pytest.raises(ArzooError, match="cannot be read as plain weights"):
            feature_net(name, str(tmp_path / "y.pth"))


def test_weights_of_a_wrapped_network_are_read_and_broken_ones_refused(tmp_path):
    state = read_pickle(packaged_effnet())
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "x.pth")
    again = read_pickle(tmp_path / "x.pth")
    assert list(again) == list(state)
    torch.save({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "y.pth")
    with pytest.raises(ArzooError, match="not finite"):
        read_pickle(tmp_path / "y.pth")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.mark.slow
def test_dinov2_and_clip(transformers, tmp_path):
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 224,
        "patch_size": 56,
    }
    dino = transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **sizes)).eval()
    dino.save_pretrained(tmp_path / "dino")
    clip = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(intermediate_size=32, projection_dim=12, **sizes)
    ).eval()
    clip.save_pretrained(tmp_path / "clip")
    images = torch.randint(
        0, 256, (2, 224, 224, 3), dtype=torch.uint8
    )  # of the network's size: nothing to resize
    for name, folder, model, mean, deviation, width in (
        ("dinov2_vitb14", "dino", dino, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16),
        (
            "clip_vitl14",
            "clip",
            clip,
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
            12,
        ),
    ):
        net = feature_net(name, str(tmp_path / folder))
        inputs = (images / 255 - torch.tensor(mean)) / torch.tensor(deviation)
        with torch.inference_mode():
            out = model(pixel_values=inputs.permute(0, 3, 1, 2))
        wanted = out.image_embeds if name.startswith("clip") else out.last_hidden_state[:, 0]
        found = net(images)
        assert (net.width, found.logits, net.standard) == (width, None, False)
        assert net.sha256 == file_sha256(tmp_path / folder / "model.safetensors")
        torch.testing.assert_close(found.pooled, wanted, rtol=1e-4, atol=1e-5)
        assert net(images[:, :64, :80]).pooled.shape == (2, width)
        with pytest.raises(ArzooError, match="does not hold"):
            feature_net(name, str(tmp_path))


def test_networks_that_are_not_here_say_where_to_put_them(transformers, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, words in (("inception_v3", "inception_v3=FILE"), ("dinov2_vitl14", "dinov2_vitl14=FOLDER")):
        with pytest.raises(ArzooError, match=words):
            feature_net(name)
