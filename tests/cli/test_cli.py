"""The shell of the command line: help, mistakes, JSON, records; and the verbs that need no checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from command import command, failing
from scripted import ROOT

from arzoo.base import lock
from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.cli import __main__ as cli
from arzoo.cli import output


def test_help_imports_nothing_slow():
    arguments = [sys.executable, "-X", "importtime", "-m", "arzoo.cli", "--help"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in cli.VERBS)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not modules & {"torch", "rich", "rich.console", "numpy", "PIL", "tyro"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_verb_help(capsys, verb):
    result = command(capsys, verb, "--help")
    assert result.status == 0
    lines = result.out.rstrip().splitlines()
    examples = lines[lines.index("Examples:") + 1 :]
    assert len(examples) >= 2
    assert all(line.startswith(f"  arzoo {verb}") for line in examples)
    assert "--json" in result.out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_verb_help_imports_no_torch(verb):
    code = f"import sys, arzoo.cli.{verb}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_no_arguments_and_version(capsys):
    assert "generate" in command(capsys).out
    assert command(capsys, "--version").out.startswith("arzoo 0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["genrate"], ["'genrate'", "'generate'"]),
        (["--jason"], ["--jason", "--help"]),
        (["doctor", "--fasst"], ["--fasst", "--fast"]),
        (["generate", "--num", "x"], ["--num", "'x'"]),
        (["generate", "--precision", "fp8"], ["fp8", "bf16"]),
        (["convert"], ["SRC"]),
    ],
)
def test_mistakes_exit_with_two(capsys, arguments, words):
    failing(command(capsys, *arguments), *words, status=2)
    result = command(capsys, *arguments, "--json")
    assert (result.status, list(result.json)) == (2, ["error"])
    assert "│" not in result.json["error"]
    assert all(word in result.json["error"] for word in words)


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (ArzooError("too blue"), "error: too blue", 1),
        (MissingPackage("pip install 'arzoo[logs]'"), "error: pip install 'arzoo[logs]'", 1),
        (ModuleNotFoundError("No module", name="torch"), "'torch' is not installed", 1),
        (FileNotFoundError(2, "No such file", "x.png"), "error: No such file: x.png", 1),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory: CUDA out of memory", 1),
        (ZeroDivisionError("division"), "unexpected ZeroDivisionError: division", 1),
        (KeyboardInterrupt(), "error: interrupted", 130),
    ],
)
def test_errors_are_one_message(capsys, monkeypatch, error, message, status):
    from arzoo.cli.doctor import Doctor

    def run(self, arguments):
        print("noise of a library")
        raise error

    monkeypatch.setattr(Doctor, "run", run)
    result = command(capsys, "doctor")
    failing(result, message, status=status)
    assert result.out == ""
    assert "error" in command(capsys, "doctor", "--json").json
    assert "Traceback" in command(capsys, "doctor", "--debug").err


def test_models(capsys):
    found = command(capsys, "models", "nar_*", "--json").json
    assert "nar_b" in found["backbone"]
    assert not found["plan"]
    text = command(capsys, "models", "--kind", "plan").out
    assert "next_neighbor" in text
    assert "emoji" in str(command(capsys, "models", "--kind", "recipe", "--json").json["recipe"])
    assert "nothing matches" in command(capsys, "models", "zzz").out


def test_models_by_family_fit_a_screen(capsys):
    shown = command(capsys, "models").out.splitlines()
    assert len(shown) <= 40
    assert max(map(len, shown)) <= 80
    text = " ".join(" ".join(shown).split())
    count = len(command(capsys, "models", "nar_*", "--kind", "backbone", "--json").json["backbone"])
    for part in (f"nar_* ({count})", "omnitok* (4)", "nar_emoji64_text", "best_of_n", "arzoo models --all"):
        assert part in text
    everything = command(capsys, "models", "--all").out
    assert "NAR, next-neighbor, 1000 classes: width 768" in everything
    assert all(
        name in everything for names in command(capsys, "models", "--json").json.values() for name in names
    )


def test_classes_of_a_model(capsys):
    classes = command(capsys, "models", "nar_emoji64", "--classes", "--json").json["classes"]
    assert len(classes) == 198
    line = command(capsys, "models", "nar_emoji64", "--classes").out.splitlines()[7]
    assert line.split(maxsplit=1) == ["7", classes[7]]
    failing(command(capsys, "models", "--classes"), "whose classes?", status=2)
    failing(command(capsys, "models", "vq_emoji64", "--classes"), "has no classes", status=2)
    failing(command(capsys, "models", "nar_emoji46", "--classes"), "Did you mean 'nar_emoji64'", status=2)


def test_matrix(capsys):
    document = command(capsys, "models", "nar_*", "--matrix", "--json").json
    assert document["matrix"]["nar"]["next_neighbor"] == ""
    assert "axes" in document["matrix"]["nar"]["raster"]
    plans = document["heads"]["nar"]
    assert plans["categorical"] == plans["depth"] == plans["flow_mlp"] == ["next_neighbor"]
    assert plans["backbone_flow"] == []
    assert document["ahead"]["nar"] == {"next_neighbor": ""}
    text = command(capsys, "models", "llamagen_b", "--matrix").out
    assert "masked: plan 'masked'" in text
    failing(
        command(capsys, "models", "mor_b", "--matrix"),
        "unknown backbone 'mor_b'. Did you mean 'mar_b'",
        status=2,
    )


@pytest.mark.parametrize(
    ("family", "plans", "heads", "ordered"),
    [
        (
            "mar",
            "cells confident masked subsamples whole",
            "categorical categorical_layer_norm depth diffusion_mlp dit flow_mlp flow_net",
            "confident masked whole",
        ),
        ("xar", "cells masked pivots scales subsamples whole", "backbone_flow", "masked whole"),
        ("flowar", "scales", "diffusion_mlp flow_mlp flow_net", ""),
    ],
)
def test_matrix_of_continuous_tokens(capsys, family, plans, heads, ordered):
    document = command(capsys, "models", f"{family}_*", "--matrix", "--json").json
    assert [plan for plan, reason in document["matrix"][family].items() if not reason] == plans.split()
    assert [head for head, fits in document["heads"][family].items() if fits] == heads.split()
    text = command(capsys, "models", f"{family}_*", "--matrix").out
    vectors = ", ".join(plan for plan in plans.split() if plan != "confident")  # it needs scores of codes
    assert f"head {heads.split()[-1]}: {vectors}" in text
    assert [plan for plan, reason in document["ordered"][family].items() if not reason] == ordered.split()
    assert "over ordered tokens" in text
    assert all(document["ahead"][family][plan] for plan in plans.split()), "each step needs a call of its own"
    assert f"{plans.split()[0]}, several steps in one call: plan" in text or "reads all tokens anew" in text


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("generate nar_emoji64 --num 1 --json --out out 2>&1 | head -1", 0, ""),
        ("completion bash --json | head -1", 0, ""),
        ("generate --help | head -1", 0, ""),
        ("nothing --json | true", 2, "unknown verb 'nothing'"),
        (
            "completion bash > /dev/full",
            1,
            "error: cannot write to standard output: No space left on device\n",
        ),
        ("completion bash 2>&-", 0, ""),
    ],
)
def test_what_is_printed_may_find_no_reader(tmp_path, line, status, said):
    command_line = f"set -o pipefail; {sys.executable} -m arzoo.cli {line}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-c", command_line], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)
    assert ("--out" in line) == (tmp_path / "out" / "run.json").exists()


def test_data(capsys, tiny_data, tmp_path):
    assert "ten" in command(capsys, "data", "--json").json
    facts = command(capsys, "data", "show", "ten", "--out", tmp_path / "sheet.png", "--json").json
    assert (facts["train"], facts["validation"], facts["classes"]) == (8, 2, {"even": 5, "odd": 5})
    assert (tmp_path / "sheet.png").exists()
    assert "even, odd" in command(capsys, "data", "show", "ten").out
    failing(command(capsys, "data", "show", "tem"), "'tem'", "'ten'", status=2)
    failing(command(capsys, "data", "show"), "which one?", status=2)


def test_doctor(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    found = command(capsys, "doctor", "--json").json
    assert found["problems"] == []
    assert found["self-test"]["two equal draws"].startswith("yes")
    assert found["cache"]["folder"] == str(tmp_path)
    assert "all is well" in command(capsys, "doctor", "--fast").out


def test_output_folder(tmp_path):
    with output.output_folder(tmp_path / "a", False, ["generate", "--class", "a b"]) as out:
        out.path("x.txt").write_text("x")
        out.facts["config"] = {"seed": 1}
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["command"] == "arzoo generate --class 'a b'"
    assert record["files"].keys() == {"x.txt"}
    assert record["config"] == {"seed": 1}
    assert {"versions", "network", "seconds", "started"} <= record.keys()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    with pytest.raises(ArzooError, match="--overwrite"), output.output_folder(tmp_path / "a", False, []):
        pass
    with output.output_folder(tmp_path / "a", True, []) as out:
        assert {path.name for path in out.folder.iterdir()} == {"mine.txt", "run.json", lock.FILE}
    with (
        pytest.raises(ArzooError, match="is a file"),
        output.output_folder(tmp_path / "a" / "mine.txt", True, []),
    ):
        pass


def test_a_failure_is_recorded_too(tmp_path):
    def interrupted() -> None:
        with output.output_folder(tmp_path, True, []) as out:
            out.path("never.txt")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["files"]) == ("KeyboardInterrupt: ", {})


def test_overwriting_follows_no_path_out_of_the_folder(tmp_path):
    (tmp_path / "other.txt").write_text("other")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text(json.dumps({"files": ["../other.txt"]}))
    with output.output_folder(tmp_path / "a", True, []):
        pass
    assert (tmp_path / "other.txt").exists()
