"""The lines of the docs that start several processes are run, with a tiny recipe and two processes on one machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command import picture, tiny_tokenizer
from scripted import ROOT

FENCED = re.compile(r"```bash\n(.*?)```", re.S)
RECIPE = {
    "task": "generator",
    "data": "pictures",
    "tokenizer": "tok",
    "model": {"name": "nar_tiny", "width": 32, "depth": 1},
    "plan": {"name": "next_neighbor"},
    "variants": 0,
    "run": {"batch": 2, "log_every": 1, "preview_every": 9, "trackers": []},
}


def launches() -> list[str]:
    """Commands of the page on training that start several processes, one line each."""
    blocks = FENCED.findall((ROOT / "docs" / "training.md").read_text(encoding="utf-8"))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"(srun |torchrun |accelerate launch )", line)]


def here(line: str, port: int) -> str:
    """A launch line for this machine: what stands for a place, a number of machines or a long training is replaced."""
    for pattern, value in (
        (r"--nproc-per-node \d+", "--nproc-per-node 2"),
        (r"--num_processes \d+", f"--num_processes 2 --main_process_port {port}"),
        (r"--nnodes \d+", "--nnodes 1"),
        (r"\bHOST\b", "localhost"),
        (r"\b29500\b", str(port)),
        (r"/shared/", "shared/"),
        (r"\btrain (nar_emoji64|smoke)\b", "train r.yaml --max-steps 1"),
    ):
        line = re.sub(pattern, value, line)
    return line if "--out" in line else f"{line} --out shared/runs/mine"


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_several_launchers_are_documented():
    programs = {shlex.split(line)[0] for line in launches()}
    assert programs == {"torchrun", "accelerate", "srun"}


@pytest.mark.parametrize("line", launches())
def test_a_launch_line_trains(tmp_path, line):
    tiny_tokenizer(tmp_path / "tok")
    (tmp_path / "pictures" / "ant").mkdir(parents=True)
    for i in range(12):
        picture(tmp_path / "pictures" / "ant" / f"{i}.png", seed=i)
    (tmp_path / "r.yaml").write_text(json.dumps(RECIPE))
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "srun", 'exec "$@"')
    program(tmp_path / "bin", "scontrol", "echo localhost")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "SLURM_NNODES": "1",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_ID": "7",
        "ARZOO_CACHE": str(tmp_path / "cache"),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-c", here(line, port)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = (tmp_path / "shared/runs/mine/log.jsonl").read_text().splitlines()
    assert [json.loads(entry)["step"] for entry in log if "loss" in json.loads(entry)] == [1]
    # Without accelerators `accelerate launch` starts one process, whatever number it is given.
    count = 1 if line.startswith("accelerate") else 2
    assert f" = {count} processes x " in done.stderr
