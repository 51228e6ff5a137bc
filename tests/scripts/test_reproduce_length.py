"""The claim about cost over length: figures are per token, and all of it runs on a toy."""

import json
import sys

import pytest
from scripted import scripts


@pytest.mark.slow
def test_a_round_of_all_networks(monkeypatch, tmp_path):
    small = ["--length", "16", "64", "--rounds", "1", "--tokens", "3", "--width", "64", "--depth", "1"]
    monkeypatch.setattr(sys, "argv", ["length.py", *small])
    with scripts("scripts/dev/reproduce") as load:
        script = load("length")
        monkeypatch.setattr(load("claim"), "CLAIMS", tmp_path)
        row = {"training_cpu_seconds": 2.0, "training_peak_mib": 3, "token_cpu_ms": 4.0, "state_mib": 5.0}
        assert [*script.figures(row, 1000).values()] == [2.0, 3.072, 4.0, 5.0]
        script.main()
    record = json.loads((tmp_path / "length.json").read_text())
    assert [line[:2] for line in record["cells"]] == [
        [length, model] for length in ("16", "64") for model in ("attention", "mamba1", "mamba2")
    ]
    assert {len(line) for line in record["cells"]} == {len(record["head"])}
    rows = record["rows"]
    for model in ("attention", "mamba1", "mamba2"):
        states = [rows[f"{model}, {length}"]["state, MiB"][0] for length in (16, 64)]
        assert (states[0] == states[1]) == model.startswith("mamba")
    assert (tmp_path / "length.png").stat().st_size > 0
