"""Reconstructions at several rates of tokens: `arzoo reconstruct --tokens` and `--quality`."""

from __future__ import annotations

import pytest
import torch
from command import command, failing, picture, tiny_tokenizer
from ordered import tiny_adaptive, tiny_prefixes
from PIL import Image

from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.pictures import read_settings
from arzoo.core.clips import as_clips, as_pictures
from arzoo.data.transforms import to_model, to_uint8
from arzoo.metrics.rate import Rate
from arzoo.metrics.scores.reconstruction import psnr
from arzoo.metrics.strips import strips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strips")
    tiny_prefixes(folder / "prefixes")
    tiny_adaptive(folder / "adaptive")
    tiny_tokenizer(folder / "grid")
    (folder / "in").mkdir()
    for i in range(3):
        picture(folder / "in" / f"p{i}.png", seed=i)
    return folder


def noise(count: int = 5) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 16, 16, 3), generator=rng, dtype=torch.uint8)


@torch.no_grad()
def test_every_rate_has_its_own_reconstruction(folder):
    tokenizer, originals = open_checkpoint(folder / "prefixes").load("tokenizer"), noise()
    result = strips(tokenizer, originals, [Rate(tokens=2), Rate(tokens=8)], batch=2)
    assert result.tokens.tolist() == [[2, 8]] * 5
    codes = tokenizer.encode(as_clips(to_model(originals)))
    for column, count in enumerate((2, 8)):
        expected = to_uint8(as_pictures(tokenizer.decode(codes.first(count))))
        torch.testing.assert_close(result.rebuilt[:, column].int(), expected.int(), atol=1, rtol=0)
        torch.testing.assert_close(result.psnr[:, column], psnr(originals, result.rebuilt[:, column]))
    assert not torch.equal(result.rebuilt[:, 0], result.rebuilt[:, 1])
    assert [mean["tokens"] for mean in result.means()] == [2, 8]


@torch.no_grad()
def test_tokens_of_adaptive_pictures_are_those_that_are_kept(folder):
    tokenizer, originals = open_checkpoint(folder / "adaptive").load("tokenizer"), noise()
    result = strips(tokenizer, originals, [Rate(quality=0.01), Rate(quality=0.3)])
    for column, quality in enumerate((0.01, 0.3)):
        kept = tokenizer.encode(as_clips(to_model(originals)), quality=quality).known.sum(1)
        assert result.tokens[:, column].tolist() == kept.tolist()
    assert len(result.tokens.unique()) > 2


def test_a_strip_for_every_picture_with_text_below(capsys, folder, tmp_path):
    options = ["reconstruct", folder / "in", "--tokenizer", folder / "prefixes", "--tokens", 1, 4, 8]
    found = command(capsys, *options, "--out", tmp_path / "out", "--json").json
    assert [mean["tokens"] for mean in found["means"]] == [1, 4, 8]
    first = found["pictures"][0]
    assert [(r["prefix"], r["tokens"]) for r in first["reconstructions"]] == [(1, 1), (4, 4), (8, 8)]
    assert all(0 < r["psnr"] < 40 for r in first["reconstructions"])
    strip = Image.open(first["file"])
    assert strip.size == (4 * 98 + 2, 98 + 32 + 2), (
        "16 pixels are enlarged to 96, and two lines of text are below"
    )
    below = strip.crop((0, 98, strip.width, strip.height)).convert("L")
    assert below.getextrema()[0] < 60, "text is dark"
    assert read_settings(first["file"])["reconstructions"] == first["reconstructions"]
    assert "4 tokens" in command(capsys, *options, "--out", tmp_path / "b").out


def test_strips_of_qualities(capsys, folder, tmp_path):
    options = ["reconstruct", folder / "in", "--tokenizer", folder / "adaptive", "--quality", 0.03, 0.3]
    found = command(capsys, *options, "--out", tmp_path / "out", "--json").json
    assert [mean["quality"] for mean in found["means"]] == [0.03, 0.3]
    each = [[r["tokens"] for r in p["reconstructions"]] for p in found["pictures"]]
    for column, mean in enumerate(found["means"]):
        assert mean["tokens"] == pytest.approx(sum(row[column] for row in each) / 3, abs=1e-3)


def test_rates_that_a_tokenizer_does_not_have(capsys, folder, tmp_path):
    def asking(tokenizer, *options):
        where = ["--out", tmp_path / "out", "--tokenizer", folder / tokenizer]
        return command(capsys, "reconstruct", folder / "in", *where, *options)

    failing(asking("prefixes", "--tokens", 4, 0), "1 to 8 tokens", "got 0", "nearest is 1", status=2)
    failing(asking("prefixes", "--tokens", 16), "1 to 8 tokens", "got 16", "nearest is 8", status=2)
    failing(asking("adaptive", "--quality", 0.5), "0 to 0.38", "got 0.5", "nearest is 0.38", status=2)
    failing(asking("adaptive", "--quality", -1), "got -1", "nearest is 0", status=2)
    failing(asking("adaptive", "--quality", "nan"), "got nan", status=2)
    failing(asking("grid", "--tokens", 4), "needs all 16 tokens", "shipped", status=2)
    failing(asking("grid", "--quality", 0.1), "takes no target", "shipped", status=2)
    assert not (tmp_path / "out").exists()
