"""Training on pictures of unlike sizes: every picture counts the same, however they are packed or divided."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import command, failing, picture, tiny_tokenizer
from micro_batches import loss_of
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips
from arzoo.data.any_size import AnySizeSet
from arzoo.data.augmentation import Augment
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.longcat.presets import longcat_8_micro
from arzoo.train import any_size
from arzoo.train.any_size import AnySizeObjective
from arzoo.train.settings import CodebookCare

KINDS = [(16, 40), (24, 24), (40, 16), (8, 8)]
LOSS = {"l1": 1.0, "l2": 1.0, "perceptual": 0.0, "commitment": 0.25, "adversarial": 0.0}


def data(count=12):
    sizes = torch.tensor([KINDS[i % len(KINDS)] for i in range(count)])
    pixels = torch.randint(0, 256, (int(sizes.prod(1).sum()), 3), generator=torch.Generator().manual_seed(0))
    return AnySizeSet(
        name="some", images=pixels.to(torch.uint8), sizes=sizes, labels=torch.arange(count) % 2,
        classes=("even", "odd"), held_out=torch.arange(count) >= count - 4,
    )  # fmt: skip


def objective(dropout=0.5, **loss):
    torch.manual_seed(0)
    tokenizer = longcat_8_micro().replace(codebook_dropout=dropout, decay=0.0).build()
    return AnySizeObjective(
        tokenizer, data(), TokenizerLossConfig(**(LOSS | loss)), Augment(), CodebookCare(), 0.0, 0
    )


@pytest.mark.parametrize("division", [2, 8])
def test_pictures_count_the_same_however_they_are_packed(division):
    """With 8 parts every picture is alone; dropped levels follow the samples, too."""
    task, numbers = objective(), torch.arange(8)
    whole, gradients = loss_of(task, numbers, 1)
    parts, of_parts = loss_of(task, numbers, division)
    assert whole == pytest.approx(parts, abs=2e-5)
    for gradient, other in zip(gradients, of_parts, strict=True):
        torch.testing.assert_close(gradient, other, atol=2e-5, rtol=1e-3)


def test_the_loss_is_that_of_the_same_picture_as_a_batch_of_one_size():
    task = objective(dropout=0.0)
    x = task.batch(0, [3])
    packed, terms = task.loss("model", task.parts, x, 0)
    rebuilt, quantized = task.tokenizer(as_clips(x[0]))
    alone, same = task.criterion.generator(x[0], rebuilt[:, :, 0], quantized, None, 0)
    torch.testing.assert_close(packed, alone, atol=1e-6, rtol=0)
    assert terms.keys() == same.keys()


def test_samples_do_not_depend_on_their_batch():
    task = objective()
    together = task.batch(0, [0, 1, 2, 3, 4])
    for place, x in enumerate(together):
        assert torch.equal(task.batch(0, [place])[0], x)
    assert len({x.shape for x in together}) > 1


def test_validation_and_restarts_look_at_all_pictures():
    task = objective()
    figures = task.validate(task.parts["model"].eval())
    assert {"validation_psnr", "validation_perplexity"} <= figures.keys()
    count = sum(x.shape[2] * x.shape[3] // 64 for x in task.batch(0, range(8)))
    assert task.vectors_of(range(8), torch.device("cpu")).shape == (count, 8)
    assert task.summary()["tokens per picture"] == "1 to 10, 7.5 on average"


def test_pictures_that_the_perceptual_network_cannot_see_have_longer_edges():
    task = objective()
    x = torch.rand(2, 3, 8, 40)
    longer = task.compared(x)
    assert longer.shape == (2, 3, 32, 40)
    assert torch.equal(longer[:, :, :8], x)
    assert bool((longer[:, :, 8:] == x[:, :, -1:]).all())
    assert task.compared(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert task.compared_size(data()) == (32, 32)


def test_what_is_refused(monkeypatch):
    with pytest.raises(ArzooError, match=r"loss.adversarial=0.1 needs pictures of one size"):
        objective(adversarial=0.1)
    with pytest.raises(ArzooError, match=r"loss.align=0.5 compares pictures of one size"):
        objective(align=0.5)
    monkeypatch.setattr(any_size, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ArzooError, match="trains in one process"):
        objective()


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    Path("own").mkdir()
    for seed in range(12):
        picture(Path("own", f"{seed}.png"), [(40, 16), (20, 26), (16, 40)][seed % 3], seed)
    return tmp_path


SHORT = (
    "--data", "own", "--sizes", "keep", "--model.name", "longcat_8_micro", "--loss.perceptual", "0", "--run.batch", "4",
    "--run.steps", "6", "--codebook.seed-at", "2", "--codebook.restart-every", "2", "--run.preview-every", "3",
)  # fmt: skip


def test_a_tokenizer_trains_on_a_folder_of_unlike_sizes(own, capsys):
    done = command(capsys, "train", "anyres_emoji64", *SHORT, "--out", "run", "--json")
    assert done.status == 0, done.err
    assert "resolution: 16 x 24 to 16 x 40, 3 sizes, resized from sides of 16 to 40" in done.err
    assert "tokens per picture: 6 to 10" in done.err
    assert Path("run/previews/reconstructions_0000006.png").exists()
    picture(Path("own/large.png"), (400, 300), 12)
    done = command(
        capsys, "reconstruct", "own", "--tokenizer", "run", "--sizes", "keep", "--out", "kept", "--json"
    )
    assert done.status == 0, done.err
    each = {Path(one["picture"]).stem: one for one in done.json["pictures"]}
    tokens = {"0": ("40 x 16", 10), "1": ("16 x 24", 6), "2": ("16 x 40", 10), "large": ("288 x 216", 972)}
    assert {name: (each[name]["size"], each[name]["tokens"]) for name in tokens} == tokens
    assert done.json["mean_tokens"] == pytest.approx(
        sum(one["tokens"] for one in each.values()) / 13, abs=1e-3
    )
    with Image.open(each["0"]["file"]) as strip:
        assert strip.width == 2 * (3 * 40 + 2) + 2
    again = command(
        capsys, "reconstruct", "own/0.png", "--tokenizer", "run", "--sizes", "keep", "--out", "one", "--json"
    )
    assert again.json["pictures"][0]["psnr"] == pytest.approx(each["0"]["psnr"], abs=1e-3)
    picture(Path("thin.png"), (900, 4), 0)
    thin = command(capsys, "reconstruct", "thin.png", "--tokenizer", "run", "--sizes", "keep", "--out", "two")
    failing(thin, "thin.png: a picture of 4 x 900 pixels is too thin")


def test_a_tokenizer_of_one_size_is_refused(own, capsys):
    changes = ("--data", "own", "--sizes", "keep", "--out", "run")
    failing(command(capsys, "train", "vq_emoji64", *changes), "sizes=keep", "one size, 64 x 64", status=2)
    options = ("--tokenizer", tiny_tokenizer(Path("tok")), "--sizes", "keep", "--out", "made")
    failing(command(capsys, "reconstruct", "own", *options), "sizes=keep", "one size, 16 x 16", status=2)
