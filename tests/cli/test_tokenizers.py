"""`arzoo tokenize`, `reconstruct` and `convert` with a tiny tokenizer, and the options of `train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import command, failing, picture, ten_pictures, tiny_tokenizer

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.cli.train import check_folder
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig


def test_tokenize(capsys, tiny_data, tmp_path):
    tokenizer = tiny_tokenizer(tmp_path / "tok")
    options = ["tokenize", "ten", "--tokenizer", tokenizer, "--out", tmp_path / "codes"]
    found = command(capsys, *options, "--variants", 1, "--json").json
    assert (found["train"]["shape"], found["validation"]["shape"]) == ([2, 8, 16], [1, 2, 16])
    assert json.loads((tmp_path / "codes" / "run.json").read_text())["train"] == found["train"]
    again = command(capsys, *options, "--variants", 1, "--json").json
    assert again["train"]["shape"] == found["train"]["shape"], "the same command finds everything done"
    failing(command(capsys, *options), "holds other codes")
    assert command(capsys, *options, "--overwrite", "--limit", 5).status == 0
    failing(command(capsys, *options, "--overwrite", "--batch", 0), "--batch", status=2)
    failing(
        command(capsys, "tokenize", "tem", "--tokenizer", tokenizer, "--out", tmp_path / "x"),
        "'ten'",
        status=2,
    )


def test_reconstruct(capsys, tiny_data, tmp_path):
    tokenizer = tiny_tokenizer(tmp_path / "tok")
    (tmp_path / "in").mkdir()
    for i in range(2):
        picture(tmp_path / "in" / f"p{i}.png", seed=i)
    options = ["reconstruct", "--tokenizer", tokenizer]
    found = command(capsys, *options, "--out", tmp_path / "a", tmp_path / "in", "--json").json
    assert len(found["pictures"]) == 2
    assert all(0 < figure["psnr"] < 40 for figure in found["pictures"])
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "0000_p0.png",
        "0001_p1.png",
        "grid.png",
        "run.json",
    }
    result = command(capsys, *options, "--out", tmp_path / "b", "ten")
    assert "mean" in result.out
    failing(command(capsys, *options, "--out", tmp_path / "c", tmp_path / "none.png"), "there is no file")
    failing(command(capsys, *options, "--out", tmp_path / "c", "tem"), "'ten'", status=2)
    failing(command(capsys, *options, "--out", tmp_path / "c"), "at least one", status=2)
    (tmp_path / "text.png").write_text("no picture")
    failing(command(capsys, *options, "--out", tmp_path / "c", tmp_path / "text.png"), "not a whole picture")
    failing(
        command(capsys, "reconstruct", "emoji32", "--tokenizer", tokenizer), "32 x 32", "16 x 16 are needed"
    )


def test_reconstruct_skips_and_reports_damaged_pictures_of_a_folder(capsys, tmp_path):
    options = ["reconstruct", "--tokenizer", tiny_tokenizer(tmp_path / "tok")]
    folder = tmp_path / "in"
    folder.mkdir()
    failing(command(capsys, *options, folder), "holds no picture")
    (folder / "a.png").write_text("no picture")
    failing(command(capsys, *options, folder, "--out", tmp_path / "a"), "none of 1 pictures", "a.png")
    picture(folder / "b.png")
    (folder / "c.png").write_bytes((folder / "b.png").read_bytes()[:300])
    result = command(capsys, *options, folder, "--out", tmp_path / "a", "--json")
    assert [figure["picture"] for figure in result.json["pictures"]] == [str(folder / "b.png")]
    assert "skipped 2 damaged pictures, the first: " in result.err
    failing(command(capsys, *options, folder / "c.png", "--out", tmp_path / "b"), "c.png", "whole picture")
    failing(command(capsys, *options, folder / "d.png", "--out", tmp_path / "b"), "there is no file")


def test_folders_are_read_in_the_size_of_the_tokenizer(capsys, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", (40, 30), seed=i)
    (tmp_path / "in" / "bad.png").write_text("no picture")
    options = ["--tokenizer", tiny_tokenizer(tmp_path / "tok"), "--out", tmp_path / "codes"]
    with pytest.warns(UserWarning, match="skipped 1 of 4"):
        found = command(capsys, "tokenize", tmp_path / "in", *options, "--json").json
    assert (found["train"]["shape"], found["validation"]["shape"]) == ([1, 2, 16], [1, 1, 16])
    failing(command(capsys, "tokenize", "emoji32", *options, "--overwrite"), "32 x 32", "16 x 16 are needed")
    assert (tmp_path / "codes" / "run.json").exists(), "what was there stays"


def test_a_failed_beginning_does_not_block_the_folder(capsys, monkeypatch, tmp_path):
    (tmp_path / "none").mkdir()
    options = ["train", "smoke", "--out", tmp_path / "run", "--max-steps", 1, "--set"]
    failing(command(capsys, *options, f"data={tmp_path / 'none'}"), "no picture files")
    failing(command(capsys, *options, "data=emoji46"), "'emoji46'", "'emoji64'", status=2)
    failing(command(capsys, *options, "data=emoji64"), "64 x 64", "32 x 32 are needed")
    for name in ("a", "b", "c"):
        picture(tmp_path / "none" / f"{name}.png", (50, 40))
    made = command(capsys, *options, f"data={tmp_path / 'none'}", "--run.batch", 2, "--json")
    assert made.status == 0, made.err
    assert made.json["steps"] == 1
    failing(command(capsys, *options[:-2], 0), "--max-steps must be at least 1", status=2)


def test_convert_stores_one_of_ours_in_fewer_bits(capsys, tmp_path):
    from arzoo.checkpoints.folder import load_parts, save_parts

    tiny_tokenizer(tmp_path / "tok")
    checkpoint, parts = load_parts(tmp_path / "tok")
    save_parts(tmp_path / "full", "tokenizer", parts, spec=checkpoint.index["spec"], metrics={"psnr": 1.0})
    found = command(capsys, "convert", tmp_path / "full", tmp_path / "half", "--bits", 16, "--json").json
    assert found["bytes"] < 0.7 * sum(p.stat().st_size for p in (tmp_path / "full").rglob("*") if p.is_file())
    half = load_parts(tmp_path / "half")[0]
    assert half.index["spec"] == checkpoint.index["spec"]
    assert half.metrics == {"psnr": 1.0}
    failing(command(capsys, "convert", tmp_path / "full", tmp_path / "half", "--bits", 8), "--overwrite")
    failing(command(capsys, "convert", tmp_path / "full", tmp_path / "x"), "--bits 16", "--bits 8")


def test_convert_brings_published_weights_in(capsys, tmp_path):
    failing(command(capsys, "convert", tmp_path / "none.pt", tmp_path / "x"), "there is no file")
    torch.save({"model": {"strange": torch.zeros(2)}}, tmp_path / "a.pt")
    failing(command(capsys, "convert", tmp_path / "a.pt", tmp_path / "x"), "not recognized")
    failing(
        command(capsys, "convert", tmp_path / "a.pt", tmp_path / "x", "--layout", "lamagen"),
        "'llamagen'",
        status=2,
    )
    (tmp_path / "b.pt").write_bytes(b"garbage")
    torch.save({"model": Path("x")}, tmp_path / "code.pt")
    for name in ("b.pt", "code.pt"):
        result = command(capsys, "convert", tmp_path / name, tmp_path / "x")
        failing(result, name, "plain weights", "Unsupported", "safetensors")
        assert "weights_only" not in result.err, "no advice to run code of strangers"
    assert not (tmp_path / "x").exists()


def test_a_published_generator_draws(capsys, tmp_path):
    from arzoo.models.common.convert import split
    from arzoo.models.llamagen.convert import transformer_table

    tokenizer = tiny_tokenizer(tmp_path / "tok")
    config = TransformerConfig(width=64, depth=2, heads=1, vocab=16, grid=(1, 4, 4), classes=3)
    parts = {"backbone": config.build(), "head": CategoricalConfig(width=64, vocab=16).build()}
    ours = {
        f"{part}.{name}": value
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    torch.save({"model": split(ours, transformer_table(config))}, tmp_path / "a.pt")
    options = ["convert", tmp_path / "a.pt", "--set", "grid=[4, 4]", "--overwrite"]
    found = command(capsys, *options, tmp_path / "gen", "--json").json
    assert (found["kind"], list(found["parts"])) == ("generator", ["backbone", "head"])
    draw = ["generate", tmp_path / "gen", "--num", 1, "--class", 2, "--out", tmp_path / "out"]
    failing(command(capsys, *draw), "does not say which tokenizer", "--tokenizer")
    assert command(capsys, *options, tmp_path / "gen", "--tokenizer", tokenizer).status == 0
    result = command(capsys, *draw)
    assert result.status == 0, result.err
    assert (tmp_path / "out" / "0000_2_seed0.png").exists()


def test_folders_of_runs(tmp_path):
    check_folder(tmp_path / "new", "auto")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").touch()
    check_folder(tmp_path / "run", "auto")
    with pytest.raises(ArzooError, match="--resume auto"):
        check_folder(tmp_path / "run", "never")
    with pytest.raises(ArzooError, match="no training run"):
        check_folder(tmp_path, "auto")


def test_train(capsys, monkeypatch, tmp_path):
    """The verb around the engine, which has tests of its own."""
    calls = []

    def run(recipe, out, max_steps, console, resume, typed):
        assert typed.startswith(f"arzoo train {tmp_path / 'r.yaml'} --out ")
        calls.append((recipe.run.steps, max_steps, recipe.init))
        (out / "recipe.yaml").write_text(recipe.to_yaml())
        if max_steps == 3:
            raise ArzooError("other settings")
        return {"steps": 2, "hours": 0.0, "metrics": {"psnr": 20.0}, "checkpoint": str(out / "checkpoint")}

    monkeypatch.setattr("arzoo.train.build.run", run)
    (tmp_path / "r.yaml").write_text("task: tokenizer\nrun: {steps: 2}\n")
    options = ["train", tmp_path / "r.yaml", "--out", tmp_path / "run"]
    assert command(capsys, *options, "--max-steps", 1, "--json").json["metrics"] == {"psnr": 20.0}
    failing(command(capsys, *options, "--resume", "never"), "--resume auto")
    assert "psnr  20" in command(capsys, *options, "--run.steps", 5, "--init", "runs/first").out
    assert calls == [(2, 1, ""), (5, None, "runs/first")]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["config"]["run"]["steps"]) == ("finished", 5)
    failing(command(capsys, *options, "--max-steps", 3), "other settings")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "ArzooError: other settings"


def test_dry_run_writes_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(registry._entries["dataset"], "ten", lambda: ten_pictures(64))
    monkeypatch.chdir(tmp_path)
    loss = {"perceptual": 0.0, "adversarial": 0.0}
    Path("r.yaml").write_text(json.dumps({"task": "tokenizer", "data": "ten", "loss": loss}))
    plan = command(capsys, "train", "r.yaml", "--json", "--dry-run", "--run.batch", 1).json
    assert (plan["config"]["run"]["batch"], plan["pictures"]) == (1, 8)
    assert plan["seconds"] == pytest.approx(plan["seconds_a_step"] * plan["config"]["run"]["steps"], rel=0.05)
    assert plan["memory"]["total"] > plan["memory"]["weights"] > 0
    assert "checkpoint/" in plan["files"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_train_explains_wrong_recipes(capsys, tmp_path):
    failing(command(capsys, "train", "no_such"), "unknown recipe 'no_such'", status=2)
    (tmp_path / "r.yaml").write_text("task: tokenizer\nrun: {steps: 1}\n")
    failing(
        command(capsys, "train", tmp_path / "r.yaml", "--run.stpes", 3),
        "--run.stpes",
        "--run.steps",
        status=2,
    )
    failing(command(capsys, "train", tmp_path / "r.yaml", "--run.steps", 0), "at least one step", status=2)
    (tmp_path / "r.yaml").write_text("task: tokenizer\nrun: {stpes: 1}\n")
    failing(command(capsys, "train", tmp_path / "r.yaml", "--run.steps", 3), "'run.stpes'", "'steps'")
