"""The script that counts calls and seconds of speculation, with tiny generators."""

import json
import sys

from command import tiny_generator, tiny_tokenizer
from scripted import scripts


def test_shares_of_the_plain_loop_are_written_and_plotted(tmp_path, monkeypatch):
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"))
    tiny_generator(tmp_path / "small", tmp_path / "tok", seed=1)
    with scripts("scripts/dev/reproduce") as load:
        script = load("speculation")
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path)
        options = [
            "--model",
            str(tmp_path / "gen"),
            "--draft",
            str(tmp_path / "small"),
            "--windows",
            "1",
            "3",
        ]
        options += ["--batches", "2", "--num", "2", "--seeds", "0"]
        monkeypatch.setattr(sys, "argv", ["speculation.py", *options])
        script.main()
    record = json.loads((tmp_path / "speculation.json").read_text())
    assert (tmp_path / "speculation.png").stat().st_size > 0
    assert len(record["cells"]) == 4 * 2
    row = record["rows"]["batch 2"]
    assert row["plain"]["calls per picture"] == 7, "the diagonals of a grid of 4 x 4"
    assert all(one["tokens that differ"] == 0 for window in row["Jacobi"].values() for one in window)
    assert {one["calls"] for one in row["Jacobi"]["1"]} == {1.0}
    assert all(0 < one["calls"] <= 1 for one in row["draft, block"]["3"])
    assert all(one["draft calls"] > 0 for one in row["draft, block"]["3"])
    assert all(one["draft calls"] == 0 for one in row["speculative Jacobi, coupled"]["3"])
