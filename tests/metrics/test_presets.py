"""Presets of published tools: what they choose, what they refuse, and their arithmetic on the same features."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch
from command import command, failing
from evaluating import evaluate
from tiny_net import TinyNet

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.cli.evaluate import Evaluate
from arzoo.metrics.bank import PictureFeatures
from arzoo.metrics.comparison import Comparison, figures
from arzoo.metrics.evaluation import Options
from arzoo.metrics.presets import PRESETS, preset
from arzoo.metrics.protocol import Protocol
from arzoo.metrics.scores.frechet import Statistics
from arzoo.models.vision.features import Features, feature_net
from arzoo.models.vision.inception import CleanInception, HalfPixelInception, Inception

READERS = {net.name: net for net in (Inception, HalfPixelInception, CleanInception)}
NEAR = ("--reference", "reference", "--bootstrap", "2")


@pytest.fixture
def tiny_readers(work, monkeypatch):
    """Few numbers in place of every network of a preset, the Inception ones with spatial features."""

    class Tiny(TinyNet):
        spatial_width = 12

        def read(self, x):
            return Features(*super().read(x)[:2], torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))

    def reader(name):
        def made(path=None):
            net = Tiny() if name in READERS else TinyNet()
            net.name, net.standard = name, name in READERS
            if name in READERS:
                net.resize, net.scaling = READERS[name].resize, READERS[name].scaling
            return net

        return made

    registry.names("feature_net")  # the real ones are registered first
    for found in map(PRESETS.get, FIGURES):
        monkeypatch.setitem(registry._entries["feature_net"], found.net, reader(found.net))
    feature_net.cache_clear()
    yield work
    feature_net.cache_clear()


FIGURES = {
    "adm": {"fid", "sfid", "is", "precision_k3", "recall_k3"},
    "torch-fidelity": {"fid", "is", "kid", "precision_k3", "recall_k3"},
    "pytorch-fid": {"fid"},
    "clean": {"fid", "kid"},
    "dgm-dinov2": {f"{name}_dinov2_vitl14" for name in ("fd", "kid", "precision_k5", "recall_k5", "density_k5",
                                                         "coverage_k5")},
}  # fmt: skip
OF_CLIPS = {"stylegan-v", "cd-fvd-i3d", "cd-fvd-videomae", "nbp-fvd"}
TOLD = {
    "adm": ("(x - 128) / 128", None, "chunks of 5000, in order", "k = 3, closed balls, at most 10000 real"),
    "torch-fidelity": (
        "(x - 128) / 128",
        "100 subsets of 1000, or of the smaller set",
        "10 equal, shuffled with seed 2020",
        "k = 3, closed balls, all real",
    ),
    "pytorch-fid": ("2 (x / 255) - 1", None, None, None),
    "clean": ("(x - 128) / 128", "100 subsets of 1000, or of the smaller set", None, None),
}


def test_the_command_knows_all_presets():
    field = typing.get_type_hints(Evaluate)["preset"]
    assert set(typing.get_args(typing.get_args(field)[0])) == PRESETS.keys() == FIGURES.keys() | OF_CLIPS
    with pytest.raises(ArzooError, match="unknown preset 'admm'"):
        preset("admm")


def test_presets_make_their_figures_and_never_compare(capsys, tiny_readers):
    keys = {}
    for name, wanted in FIGURES.items():
        document = evaluate(capsys, "samples", *NEAR, "--preset", name, "--out", f"out/{name}")
        assert document["figures"].keys() == wanted
        assert all(figure["error"] is not None for figure in document["figures"].values())
        protocol = document["protocol"]
        assert (protocol["preset"], protocol["ddof"]) == (name, 1)
        if name in TOLD:
            told = tuple(protocol.get(field) for field in ("scaling", "kid", "splits", "neighbors"))
            assert told == TOLD[name]
        assert Protocol.from_dict(protocol).to_dict() == protocol
        keys[document["comparable"]] = name
    plain = evaluate(capsys, "samples", *NEAR, "--net", "inception_v3", "--out", "out/plain")
    assert len({plain["comparable"], *keys}) == 1 + len(FIGURES)
    assert "preset" not in plain["protocol"]
    for other in ("torch-fidelity", "pytorch-fid", "plain"):
        failing(
            command(capsys, "leaderboard", "out/adm", f"out/{other}"), "not measured alike", "preset 'adm'"
        )
    tables = command(capsys, "leaderboard", "samples", "--json").json["tables"]
    assert {table["comparable"] for table in tables} == {plain["comparable"], *keys}
    assert "as by adm" in command(capsys, "leaderboard", "out/adm").out


def test_what_a_preset_refuses(capsys, tiny_readers):
    refused = command(capsys, "evaluate", "samples", *NEAR, "--preset", "pytorch-fid", "--metrics", "kid")
    failing(refused, "preset pytorch-fid has no kid", "has fd")
    refused = command(capsys, "evaluate", "samples", *NEAR, "--preset", "clean", "--net", "inception_v3")
    failing(refused, "inception_v3_clean, not inception_v3", "--net inception_v3_clean=PATH", status=2)
    assert command(capsys, "evaluate", "samples", *NEAR, "--preset", "admm").status == 2
    statistics = {"mu": np.zeros(8), "sigma": np.eye(8), "mu_s": np.zeros(12), "sigma_s": np.eye(12)}
    np.savez("adm.npz", **statistics)
    found = evaluate(capsys, "samples", "--reference", "adm.npz", "--preset", "adm", "--bootstrap", "0")
    assert {"fid", "sfid"} <= found["figures"].keys()
    assert any("does not say how its pictures were resized" in text for text in found["warnings"])
    refused = command(capsys, "evaluate", "samples", "--reference", "adm.npz", "--preset", "pytorch-fid")
    failing(refused, "those of the ADM evaluator", "--preset adm")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_whose_weights_are_not_here_names_the_file_and_its_place(capsys, work, monkeypatch, name):
    feature_net.cache_clear()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(work / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(work))
    file = {"i3d": "i3d_torchscript.pt", "vid": "vit_g_hybrid_pt_1200e_ssv2_ft.pth"}.get(
        PRESETS[name].net[:3]
    )
    words = [file or "pt_inception-2015-12-05-6726825d.pth", str(work / "hub" / "checkpoints")]
    if PRESETS[name].net == "dinov2_vitl14":
        pytest.importorskip("transformers")
        words = ["facebook/dinov2-large"]
    net = PRESETS[name].net
    failing(
        command(capsys, "evaluate", "samples", *NEAR, "--preset", name),
        f"{net} are not",
        f"--net {net}=",
        *words,
    )


def test_a_tokenizer_is_measured_with_the_distances_of_a_preset(capsys, models, tiny_readers):
    pairs = {"psnr", "ssim", "codes_used", "codebook_perplexity"}
    for name, wanted in (("adm", {"rfid", "rsfid"}), ("pytorch-fid", {"rfid"})):
        document = evaluate(capsys, "tok", "--reference", "ten", "--preset", name, "--bootstrap", "0")
        assert document["figures"].keys() == wanted | pairs
        assert document["protocol"]["preset"] == name


def features(n, shift=0.0, d=6, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=random) + shift


def scores(name, samples, reference, logits=None):
    """Figures of a preset of features, by the beginning of their names."""
    tool = PRESETS[name]
    sides = [
        PictureFeatures(len(x), Statistics.of(x), "", features=x, logits=y)
        for x, y in ((samples, logits), (reference, None))
    ]
    comparison = Options(preset=tool, replicates=0).comparison(TinyNet(), *sides)
    metrics = [
        metric for metric in tool.metrics if metric != "sfd" and (logits is not None or metric != "is")
    ]
    found, _ = figures(comparison, metrics, strict=True)
    return {key.removesuffix("_tiny"): figure.value for key, figure in found.items()}


def test_adm_scores_chunks_of_5000_in_order():
    """The loop of its evaluator over class-ordered pictures, where the order matters; the last chunk is smaller."""
    logits = 3 * features(12_500, d=10) + 4 * torch.eye(10)[torch.arange(12_500) // 1250]
    p = logits.double().softmax(1).numpy()
    wanted = []
    for first in range(0, len(p), 5000):
        part = p[first : first + 5000]
        wanted.append(np.exp(np.mean(np.sum(part * (np.log(part) - np.log(part.mean(0))), 1))))
    small = features(40), features(50, 0.5, seed=1)
    found = scores("adm", *small, logits)["is"]
    assert found == pytest.approx(np.mean(wanted), rel=1e-9)
    assert found < 0.9 * scores("torch-fidelity", *small, logits)["is"]


@pytest.mark.parametrize("name", PRESETS)
def test_covariances_are_over_n_less_1_or_over_n(name):
    samples, reference = features(30), features(40, 0.5, seed=1)
    over_n = name in ("stylegan-v", "cd-fvd-i3d", "cd-fvd-videomae")
    one, other = (np.cov(x.numpy(), rowvar=False, ddof=int(not over_n)) for x in (samples, reference))
    shift = ((samples.mean(0) - reference.mean(0)) ** 2).sum()
    cross = np.sqrt(np.linalg.eigvals(one @ other).astype(complex)).real.sum()
    expected = float(shift) + np.trace(one) + np.trace(other) - 2 * cross
    assert scores(name, samples, reference, features(30))["fd"] == pytest.approx(expected, rel=1e-5)


def test_the_figures_of_torch_fidelity():
    metrics = pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    assert metrics.__version__
    samples, reference, logits = features(70), features(70, 0.4, seed=1), features(70, d=5, seed=2)
    found = scores("torch-fidelity", samples, reference, logits)
    kid = kid_features_to_metric(samples, reference, kid_subsets=1, kid_subset_size=70, verbose=False)
    near = prc_features_to_metric(samples, reference, verbose=False)
    assert found["is"] == pytest.approx(isc_features_to_metric(logits)["inception_score_mean"], rel=1e-9)
    assert found["kid"] == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-5)
    assert (found["precision_k3"], found["recall_k3"]) == pytest.approx((near["precision"], near["recall"]))


def test_which_pictures_have_neighbours(monkeypatch):
    for module in ("scores.pictures", "comparison"):
        monkeypatch.setattr(f"arzoo.metrics.{module}.MOST_NEIGHBORS", 40)
    samples, reference = features(50), features(60, seed=1)

    def counted(name):
        tool = PRESETS[name]
        sides = [PictureFeatures(len(x), Statistics.of(x), "", features=x) for x in (samples[:30], reference)]
        made, _ = figures(
            Options(preset=tool, replicates=0).comparison(TinyNet(), *sides), tool.metrics[-1:], True
        )
        return {figure.definition.partition("balls, ")[2] for figure in made.values()}

    assert counted("torch-fidelity") == {"30 samples, 60 real"}
    assert counted("dgm-dinov2") == {"30 samples, 30 real"}
    sides = [PictureFeatures(len(x), Statistics.of(x), "", features=x) for x in (samples, reference)]
    ours, _ = figures(Comparison(TinyNet(), *sides, 0), ("density_coverage",), True)
    assert {figure.definition for figure in ours.values()} == {
        "5th neighbour, open balls, 40 samples, 40 real"
    }
