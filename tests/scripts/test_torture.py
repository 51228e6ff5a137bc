"""The script that interrupts a training run: it detects violations, and a short one finds none."""

import importlib.util
import json
import os
import signal
import sys

import pytest
import toy
from scripted import ROOT


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "dev" / "torture.py"
    spec = importlib.util.spec_from_file_location("torture", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tortured(script, tmp_path):
    """Two equal finished runs, as if the first had been tortured."""
    torture = script.Torture(tmp_path, steps=20, save_every=5, seed=0)
    toy.train(torture.run)
    toy.copy(torture.run, torture.alone)
    torture.output.write_text("\nstep 1  loss 2\n")
    return torture


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_equal_runs_are_equal(script, tortured):
    tortured.judge("inside a save", -signal.SIGKILL, 15)
    assert tortured.trials == [script.Trial("inside a save", killed=True, inside=False, saved=20, lost=0)]
    files, logged = tortured.compare()
    assert (files, logged) == (5, 20)
    text = script.report(tortured, 90, files, logged)
    assert "| kills (SIGKILL) | 1: 1 inside a save |" in text
    assert "| steps lost per kill: mean, largest | 0.00, 0 |" in text


@pytest.mark.parametrize(
    "file", ["state/step_0000020/model.optimizer.safetensors", "checkpoint/model.safetensors"]
)
def test_one_bit_is_a_difference(script, tortured, file):
    flip(tortured.run / file)
    with pytest.raises(script.Broken, match="weights differ"):
        tortured.compare()


def test_another_number_in_the_log_is_a_difference(script, tortured):
    log = tortured.run / "log.jsonl"
    lines = [json.loads(line) for line in log.open()]
    lines[7]["loss"] += 1e-6
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(script.Broken, match="the logs differ"):
        tortured.compare()


def damaged(tortured):
    flip(tortured.run / "state" / "step_0000015" / "ema.safetensors")


def dangling(tortured):
    (tortured.run / "latest").write_text("step_0000025")


def logged_too_much(tortured):
    with (tortured.run / "log.jsonl").open("a") as log:
        log.write('{"step": 26}\n{"step": 27, "lo')


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "step_0000015 is damaged"),
        (dangling, "step_0000025 is damaged"),
        (logged_too_much, "6 steps lost"),
    ],
)
def test_what_a_kill_must_not_leave_is_found(script, tortured, harm, words):
    harm(tortured)
    with pytest.raises(script.Broken, match=words):
        tortured.judge("at a random step", -signal.SIGKILL, 15)


def test_a_stop_that_says_nothing_or_loses_steps_is_found(script, tortured):
    with pytest.raises(script.Broken, match="'Ctrl-C' ended with status 130"):
        tortured.judge(script.ONCE, 130, 15)
    with pytest.raises(script.Broken, match="ended with status 1"):
        tortured.judge("at a random step", 1, 15)
    with pytest.raises(script.Broken, match="saved step 20 after 25"):
        tortured.judge("at a random step", -signal.SIGKILL, 25)
    os.remove(tortured.run / "latest")
    tortured.judge("inside a save", -signal.SIGKILL, 15)
    assert tortured.trials[-1].inside


@pytest.mark.slow
def test_a_short_torture(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = ["--kills", "2", "--others", "0", "--steps", "12", "--out", str(tmp_path / "out")]
    assert script.main(options) == 0
    assert "| kills (SIGKILL) | 2: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script.main(options)
    assert "exists and is not empty" in capsys.readouterr().err
