"""From a folder of own pictures to drawings, with odd folders and names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import command, failing, picture, tiny_generator, tiny_tokenizer

from arzoo.train.tokenizer import TokenizerObjective

PACE = ("run.steps=2", "run.batch=4", "optim.warmup=1", "run.preview_every=9", "run.save_every=9")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working folder with a tiny tokenizer of 16 x 16 pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    tiny_tokenizer(Path("tok"))
    return tmp_path


def test_one_class_of_own_pictures_is_learned_and_drawn(work, capsys):
    folder = Path("мои снимки")
    folder.mkdir()
    for number, size in enumerate([(16, 16), (20, 40), (300, 100)] * 4):
        picture(folder / f"снимок {number}.png", size, number)
    sizes = ("tokenizer=tok", "model.width=32", "model.depth=1", "model.heads=2", "variants=1", "init=")
    trained = command(capsys, "train", "own_generator", "--data", folder, "--out", "run", *sizes, *PACE)
    assert trained.status == 0, trained
    assert "the middle square of each is taken, which leaves out 39% of them, and at most 67%" in trained.err
    assert "augmentation: moved by up to 3 %, 50 % resized to 95 to 105 %" in trained.err
    arguments = ("--tokenizer", "tok", "--class", folder.name, "--num", 2, "--out", "out")
    drawn = command(capsys, "generate", "run", *arguments)
    assert drawn.status == 0, drawn
    assert sorted(path.name for path in Path("out").glob("0*.png")) == [
        "0000_мои-снимки_seed0.png",
        "0001_мои-снимки_seed0.png",
    ]


def test_classes_of_any_alphabet_are_drawn_by_name(work, capsys):
    names = ["a b", "été 'x'", "日本 語"]
    tiny_generator(Path("gen"), Path("tok"), classes=names)
    drawn = command(capsys, "generate", "gen", "--class", *names, "--num", 3, "--out", "out")
    assert drawn.status == 0, drawn
    assert [path.name.split("_")[1] for path in sorted(Path("out").glob("0*.png"))] == [
        "a-b",
        "été-x",
        "日本-語",
    ]
    failing(command(capsys, "generate", "gen", "--class", "日本", "--out", "more"), "日本", status=2)


def test_a_generator_without_its_own_tokenizer_says_what_to_do(work, capsys):
    for number in range(4):
        Path("own/a").mkdir(parents=True, exist_ok=True)
        picture(Path(f"own/a/{number}.png"), seed=number)
    failing(command(capsys, "train", "own_generator", "--data", "own"), "runs/own_tokenizer", status=2)
    fresh = command(capsys, "train", "own_generator", "--data", "own", "--tokenizer", "tok", "--out", "run")
    failing(fresh, "nar_emoji64 was trained on tokenizer", 'with --init ""')


def test_the_tokenizer_of_own_pictures_keeps_the_shipped_codes(work, capsys, monkeypatch):
    from arzoo.checkpoints.folder import open_checkpoint

    monkeypatch.setattr(TokenizerObjective, "preview", lambda *_: None)
    for number in range(4):
        Path("own/a").mkdir(parents=True, exist_ok=True)
        picture(Path(f"own/a/{number}.png"), (40, 40), seed=number)
    trained = command(capsys, "train", "own_tokenizer", "--data", "own", "--out", "run", *PACE)
    assert trained.status == 0, trained
    assert "the 1024 codes of vq_emoji64 are kept" in trained.err
    before, after = (
        open_checkpoint(name, "tokenizer").load("tokenizer").quantizer.table for name in ("vq_emoji64", "run")
    )
    assert torch.nn.functional.cosine_similarity(before, after).min() > 0.99
