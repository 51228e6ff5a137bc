"""Clips that are evaluated: names of figures, frames that are scored, protocol, reconstruction and prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from command import command, failing
from evaluating import evaluate
from greys import Grey, GreyConfig, generator
from PIL import Image
from squares import FRAMES as SQUARES
from squares import moving_squares
from tiny_net import TinyClipNet

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UsageError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.data.base import ImageSet
from arzoo.data.pictures import DataPictures
from arzoo.data.scored_clips import Frames
from arzoo.data.transforms import to_model
from arzoo.generation.generator import Generator
from arzoo.metrics.bank import measure
from arzoo.metrics.comparison import Comparison, Rules, figures
from arzoo.metrics.continued import ContinuedClips
from arzoo.metrics.evaluation import Options, evaluate_pictures, evaluate_tokenizer
from arzoo.metrics.presets import PRESETS
from arzoo.metrics.protocol import Protocol
from arzoo.metrics.reference import Reference
from arzoo.metrics.scores.frechet import FrechetFrom, Gaussian, Statistics, frechet_distance
from arzoo.metrics.scores.reconstruction import psnr, reconstruct
from arzoo.models.vision.features import DEFAULT_OF_CLIPS, feature_net
from arzoo.models.vision.i3d import I3D, CroppedI3D
from arzoo.models.vision.videomae import VideoMAE
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.larp.network import LARPConfig
from arzoo.tokenizers.nbp.presets import clip_micro
from arzoo.viz.clips import write_clip

FRAMES = 9


def brightening(count=24, frames=FRAMES, size=None):
    """Clips that become brighter, in two classes."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randint(0, 60, (count, 1, 1, 1, 3), generator=rng)
    steps = torch.arange(frames).view(1, -1, 1, 1, 1) * torch.randint(
        5, 15, (count, 1, 1, 1, 1), generator=rng
    )
    pixels = (start + steps).expand(-1, -1, 8, 8, -1) + torch.randint(0, 9, (1, 1, 8, 8, 3), generator=rng)
    return ImageSet(
        name="brightening",
        images=pixels.to(torch.uint8).contiguous(),
        labels=torch.arange(count) % 2,
        classes=("red", "blue"),
        held_out=torch.arange(count) % 3 == 0,
        fps=15.0,
    )


@pytest.fixture
def clips(work, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "brightening", brightening)
    monkeypatch.setitem(registry._entries["feature_net"], "tiny_clips", lambda path=None: TinyClipNet())
    return work


TINY = ("--net", "tiny_clips", "--bootstrap", "3")


def test_a_set_of_clips_has_its_own_names_and_protocol(capsys, clips):
    document = evaluate(capsys, "brightening", "--reference", "brightening", *TINY)
    assert {"fvd_tiny_clips", "kvd_tiny_clips"} <= document["figures"].keys()
    assert "fvd" not in document["figures"]
    assert not any(name.startswith("is") for name in document["figures"])
    assert document["figures"]["kvd_tiny_clips"]["error"] is not None
    protocol = document["protocol"]
    assert (protocol["frames"], protocol["fps"]) == ("all 9", 15.0)
    assert (protocol["n"], protocol["n_reference"]) == (8, 16)
    assert Protocol.from_dict(protocol).key == document["comparable"]
    assert any("take 2,048" in text for text in document["warnings"])
    fewer = evaluate(capsys, "brightening", "--reference", "brightening", *TINY, "--frames", 5)
    assert fewer["protocol"]["frames"] == "the first 5 of 9"
    assert fewer["comparable"] != document["comparable"]
    shown = command(capsys, "evaluate", "brightening", "--reference", "brightening", *TINY)
    assert "fvd_tiny_clips" in shown.out


def test_what_is_refused_of_clips(capsys, clips):
    near = ("--reference", "brightening")
    refused = command(capsys, "evaluate", "brightening", *near, *TINY, "--metrics", "fvd")
    failing(refused, "tiny_clips is not I3D", "fvd_tiny_clips", "i3d_torchscript.pt", status=2)
    refused = command(capsys, "evaluate", "brightening", *near, "--net", "tiny")
    failing(refused, "tiny sees single pictures", "clips of 9 frames", "clip_probe", status=2)
    failing(
        command(capsys, "evaluate", "samples", "--reference", "ten", *TINY), "network", "pictures", status=2
    )
    refused = command(capsys, "evaluate", "samples", "--reference", "ten", "--net", "tiny", "--frames", 4)
    failing(refused, "--frames 4", "pictures", status=2)
    failing(command(capsys, "evaluate", "brightening", *near, *TINY, "--frames", 10), "have 9", status=2)
    failing(command(capsys, "evaluate", "brightening", *near, *TINY, "--frames", 1), "at least 2", status=2)
    failing(command(capsys, "evaluate", "brightening", *near, *TINY, "--keep", 5), "generator", status=2)
    failing(command(capsys, "evaluate", "brightening", *near, *TINY, "--score", "new"), "--keep", status=2)
    for option in ("--fps", "--stride"):
        refused = command(capsys, "evaluate", "brightening", *near, *TINY, option, 9)
        failing(refused, "files of a folder", "leave them out", status=2)
    refused = command(capsys, "evaluate", "brightening", *near, *TINY, "--save-samples", "s.npz")
    failing(refused, "no clips", status=2)
    failing(
        command(capsys, "evaluate", "samples", *near, "--net", "tiny"), "has clips of 9 frames", "pictures"
    )


@pytest.fixture
def no_other_nets():
    """Networks are loaded once; those of a test are not for others."""
    feature_net.cache_clear()
    yield
    feature_net.cache_clear()


READERS = {net.name: net for net in (I3D, CroppedI3D, VideoMAE)}


@pytest.mark.parametrize("standard", [True, False])
@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.frames])
@pytest.mark.usefixtures("no_other_nets")
def test_the_rules_of_published_tools_of_clips(capsys, clips, monkeypatch, name, standard):
    """Which frames they score, how they resize and what they divide covariances by; with few numbers of a clip."""
    tool = PRESETS[name]

    def reader(path=None):
        net, published = TinyClipNet(), READERS[tool.net]
        net.name, net.resize, net.scaling, net.standard = (
            tool.net,
            published.resize,
            published.scaling,
            standard,
        )
        net.least_frames = published.least_frames
        return net

    monkeypatch.setitem(registry._entries["dataset"], "long", lambda: brightening(frames=17))
    monkeypatch.setitem(registry._entries["feature_net"], tool.net, reader)
    document = evaluate(capsys, "long", "--reference", "long", "--preset", name, "--bootstrap", 3)
    figure = "fvd" if standard else f"fvd_{tool.net}"
    assert document["figures"].keys() == {figure}
    assert document["figures"][figure]["error"] is not None
    over_n = name != "nbp-fvd"
    assert ("over n," in document["figures"][figure]["definition"]) == over_n
    protocol = document["protocol"]
    assert protocol["preset"] == name
    assert protocol["frames"] == "the first 16 of 17"
    assert protocol["resize"] == READERS[tool.net].resize
    assert protocol["scaling"] == READERS[tool.net].scaling
    assert protocol["ddof"] == (0 if over_n else 1)
    asked = (
        "evaluate",
        "long",
        "--reference",
        "long",
        "--preset",
        name,
        "--bootstrap",
        0,
        "--metrics",
        "fvd",
    )
    if standard:
        same = command(capsys, *asked, "--json").json["figures"]["fvd"]
        assert same["value"] == document["figures"]["fvd"]["value"]
    else:
        told = "has other weights than the published ones" if tool.net.startswith("i3d") else "is not I3D"
        failing(command(capsys, *asked), f"{tool.net} {told}, and gives {figure} (metric fd)", status=2)


def test_statistics_of_clips_remember_their_frames(capsys, clips):
    evaluate(capsys, "brightening", *TINY, "--frames", 5, "--save-statistics", "s.npz")
    near = ("brightening", "--reference", "s.npz", *TINY, "--metrics", "fd")
    direct = evaluate(
        capsys, "brightening", "--reference", "brightening", *TINY, "--frames", 5, "--metrics", "fd"
    )
    stored = evaluate(capsys, *near, "--frames", 5)
    figure = "fvd_tiny_clips"
    assert stored["figures"][figure]["value"] == pytest.approx(direct["figures"][figure]["value"], rel=1e-6)
    failing(command(capsys, "evaluate", *near), "the first 5 of 9", "all 9")
    failing(command(capsys, "evaluate", "s.npz", "--reference", "brightening", *TINY), "clips", status=2)


def test_folders_of_clips(capsys, clips):
    for row, clip in enumerate(brightening(6).images.numpy()):
        (clips / "out" / f"{row}").mkdir(parents=True)
        for number, frame in enumerate(np.kron(clip, np.ones((1, 2, 2, 1), np.uint8))):
            Image.fromarray(frame).save(clips / "out" / f"{row}" / f"{number:03d}.png")
    document = evaluate(capsys, "brightening", "--reference", "out", *TINY)
    assert document["protocol"]["n_reference"] == 6
    assert (document["protocol"]["stride"], document["protocol"]["start"]) == (9, "first frame of a file")
    # Sides are those of the samples, so frames of 16 pixels were brought to 8.
    assert document["figures"]["kvd_tiny_clips"]["value"] < 0.05
    pytest.importorskip("av")
    for kind in ("gif", "mp4"):
        (clips / kind).mkdir()
        for row, clip in enumerate(brightening(6).images):
            write_clip(clips / kind / f"{row}.{kind}", clip, 10)
        timed = evaluate(capsys, kind, "--reference", "brightening", *TINY, "--fps", 10, "--frames", 9)
        protocol = timed["protocol"]
        assert (protocol["n"], protocol["fps"], protocol["size"]) == (6, 10, "8 x 8")


def test_covariances_over_n():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, 5, generator=rng).double(), torch.randn(30, 5, generator=rng).double() * 2 + 1
    numbers = [np.cov(x.numpy().T, ddof=0) for x in (a, b)]
    roots = np.sqrt(np.linalg.eigvals(numbers[0] @ numbers[1]).real).sum()
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected = float(shift) + np.trace(numbers[0]) + np.trace(numbers[1]) - 2 * roots
    sets = Statistics.of(a), Statistics.of(b)
    assert frechet_distance(*sets, ddof=0) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(*sets) != pytest.approx(expected, rel=1e-4)
    stored = Gaussian(sets[1].mean, sets[1].covariance, 30)
    assert frechet_distance(sets[0], stored, ddof=0) == pytest.approx(expected, rel=1e-10)
    with pytest.raises(ArzooError, match="do not say n"):
        frechet_distance(sets[0], Gaussian(sets[1].mean, sets[1].covariance), ddof=0)


def test_resamples_have_the_divisor_of_the_preset(clips):
    net, data = TinyClipNet().eval(), brightening()
    sets = [measure(DataPictures(data.split(name)), net) for name in ("validation", "train")]
    few = sets[0].features.repeat(1, 5)  # fewer clips than numbers
    for ddof, word in ((0, "over n,"), (1, "over n - 1,")):
        found, _ = figures(Comparison(net, *sets, replicates=0, rules=Rules(ddof=ddof)), ("fd",), strict=True)
        assert word in found["fvd_tiny_clips"].definition
        expected = frechet_distance(sets[1].statistics, sets[0].statistics, ddof)
        assert found["fvd_tiny_clips"].value == pytest.approx(expected)
        other = Statistics.of(sets[1].features.repeat(1, 5))
        once = torch.ones(len(few), dtype=torch.long)
        assert FrechetFrom(other, ddof).of_resamples(few)(once) == pytest.approx(
            FrechetFrom(other, ddof)(Statistics.of(few)), rel=1e-6, abs=1e-9
        )


def test_reconstructions_are_scored_frame_by_frame(clips):
    tokenizer, net = Grey(GreyConfig()).eval(), TinyClipNet().eval()
    originals, part = DataPictures(brightening()), Frames(FRAMES, 0, 5)
    result = evaluate_tokenizer(tokenizer, originals, net, Options(replicates=3, part=part))
    assert {"rfvd_tiny_clips", "psnr", "ssim", "codes_used"} <= result.figures.keys()
    images = originals.read(range(24))
    rebuilt = reconstruct(tokenizer, images)[2]
    each = torch.stack([psnr(a, b) for a, b in zip(rebuilt.unbind(1), images.unbind(1), strict=True)], 1)
    assert result.by_frame["psnr"] == pytest.approx(each.mean(0).tolist())
    assert result.figures["psnr"].value == pytest.approx(float(each.mean()))
    assert "mean over frames" in result.figures["psnr"].definition
    assert result.document()["by_frame"].keys() == {"psnr", "ssim"}
    # Scores of pairs are over all frames, distances over those that are scored.
    first = [
        measure(part.of(x), net) for x in (originals, DataPictures(replace(brightening(), images=rebuilt)))
    ]
    expected = frechet_distance(first[0].statistics, first[1].statistics)
    assert result.figures["rfvd_tiny_clips"].value == pytest.approx(expected)
    assert result.protocol.frames == "the first 5 of 9"


def test_predicted_frames_are_scored(clips):
    torch.manual_seed(0)
    model, net, originals = (
        generator(Grey(GreyConfig()).eval()),
        TinyClipNet().eval(),
        DataPictures(brightening()),
    )
    rows, labels = [0, 3, 5, 5, 9], torch.tensor([0, 1, 1, 1, 0])
    drawn = ContinuedClips("model", model, originals, rows, labels, "as in the test", keep=5)
    kept = Grey(GreyConfig()).eval().encode(to_model(originals.read(rows))).values[:, :8]
    together = drawn.read(range(5))
    assert torch.equal(model.tokenizer.encode(to_model(together)).values[:, :8], kept)
    assert torch.equal(torch.cat([drawn.read([row]) for row in range(5)]), together)
    assert not torch.equal(together[2], together[3])  # one original, other seeds
    reference = Reference("brightening", measure(Frames(FRAMES, 5, 4).of(originals), net))
    part = Frames(FRAMES, 5, 4)
    result = evaluate_pictures(drawn, reference, net, Options(replicates=3, part=part))
    assert {"fvd_tiny_clips", "kvd_tiny_clips", "psnr", "ssim"} == result.figures.keys()
    assert result.protocol.given == "5 first frames"
    assert result.protocol.frames == "the last 4 of 9, without the 5 given ones"
    new = zip(
        together[:, 5:].flatten(0, 1).split(1),
        originals.read(rows)[:, 5:].flatten(0, 1).split(1),
        strict=True,
    )
    expected = torch.cat([psnr(a, b) for a, b in new]).view(5, 4)
    assert result.by_frame["psnr"] == pytest.approx(expected.mean(0).tolist())
    with pytest.raises(UsageError, match=r"--keep 4.*tokens of their own: 1, 5"):
        ContinuedClips("model", model, originals, rows, labels, "as in the test", keep=4)


def test_every_frame_is_scored_by_the_networks_that_are_shipped():
    """Clips of 32 x 32, which the perceptual distance sees, and the network of clips as it comes."""
    torch.manual_seed(0)
    tokenizer, net = clip_micro().build().eval(), feature_net(DEFAULT_OF_CLIPS)
    data = moving_squares()
    held_out, figure = data.split("validation"), f"fvd_{DEFAULT_OF_CLIPS}"
    originals = DataPictures(held_out)
    part, pairs = Frames(SQUARES, 0, SQUARES), {"psnr", "ssim", "perceptual_squeezenet"}
    rebuilt = evaluate_tokenizer(tokenizer, originals, net, Options(replicates=2, part=part))
    model = Generator.create(
        "nbp_clip_tiny", tokenizer, "next_block", classes=data.classes, tokenizer_name="clip_micro",
        tokenizer_hash="0", width=16, depth=1, heads=2, plan_options={"size": 8, "hybrid": True},
    )  # fmt: skip
    part, rows = Frames(SQUARES, 1, SQUARES - 1), list(range(len(held_out)))
    drawn = ContinuedClips("model", model, originals, rows, held_out.labels, "as in the test", keep=1)
    reference = Reference("squares", measure(part.of(originals), net))
    predicted = evaluate_pictures(drawn, reference, net, Options(replicates=2, part=part))
    for result, name, frames in ((rebuilt, f"r{figure}", SQUARES), (predicted, figure, SQUARES - 1)):
        assert result.by_frame.keys() == pairs
        assert {len(values) for values in result.by_frame.values()} == {frames}
        assert all(np.isfinite(values).all() for values in result.by_frame.values())
        assert all(result.figures[each].error > 0 for each in (name, *pairs))


def test_frames_are_not_given_to_a_model_whose_tokens_have_no_place(capsys, clips):
    """LARP's tokens stand for the whole clip."""
    stack = StackConfig(width=16, depth=1, heads=2)
    sizes = {"frames": FRAMES, "image_size": 8, "patch_frames": 3, "patch": 4, "grid": (3, 2, 2), "vocab": 16}
    tokenizer = LARPConfig(**sizes, encoder=stack, decoder=stack).build()
    save_parts(clips / "larp", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    weights = open_checkpoint(clips / "larp").parts["tokenizer"]["weights"]
    model = generator(tokenizer, weights)
    model.tokenizer_name = "larp"
    model.save(clips / "gen")
    refused = command(capsys, "evaluate", "gen", "--reference", "brightening", *TINY, "--keep", 5)
    failing(refused, "needs tokens on a grid over the picture or clip", status=2)
