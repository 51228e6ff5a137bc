"""Devices, seeds, hashes and versions."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest
import torch

from arzoo.base import runtime
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.files import file_sha256


def test_device():
    assert runtime.choose_device("cpu") == torch.device("cpu")
    assert runtime.choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UnknownName, match="'cuda'"):
        runtime.choose_device("cudda")
    with pytest.raises(ArzooError, match="not on this machine"):
        runtime.choose_device("cuda:99")


def test_precision_and_threads():
    assert runtime.choose_dtype("bf16") is torch.bfloat16
    with pytest.raises(UnknownName, match="'bf16'"):
        runtime.choose_dtype("bf61")
    before = torch.get_num_threads()
    runtime.set_threads(0)
    assert torch.get_num_threads() == before
    with pytest.raises(ArzooError, match="-1"):
        runtime.set_threads(-1)


def test_sample_seeds_are_spread_and_stable():
    seeds = [runtime.sample_seed(seed, index) for seed in range(30) for index in range(30)]
    assert len(set(seeds)) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    expected = int(hashlib.sha256(b"0:0").hexdigest()[:16], 16) >> 1
    assert runtime.sample_seed(0, 0) == expected
    assert runtime.sample_seed(1, 10) != runtime.sample_seed(11, 0)


def test_file_hash(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_versions_name_the_library():
    found = runtime.versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"arzoo", "commit", "python", "platform"} <= found.keys()


def test_the_commit_is_read_without_a_lock(monkeypatch, tmp_path):
    """Git that refreshes the index while it looks leaves a lock behind where the time limit ends it."""
    (tmp_path / "arzoo" / "base").mkdir(parents=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.org"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "arzoo" / "base" / "runtime.py"))
    os.utime(tmp_path / "file", (1, 1))  # another time of change, the same content: a reason to refresh
    before = (tmp_path / ".git" / "index").read_bytes()
    commit = runtime.commit()
    assert commit is not None
    assert not commit.endswith("+")
    assert (tmp_path / ".git" / "index").read_bytes() == before
    subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True)
    assert (tmp_path / ".git" / "index").read_bytes() != before, "a plain status refreshes"
    (tmp_path / "file").write_text("two")
    assert runtime.commit() == f"{commit}+"


def test_hardware_names_processor_threads_and_accelerators(monkeypatch):
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads per process"
    assert runtime.hardware(torch.device("cpu")).endswith(f", {cores}")
    assert runtime.hardware(torch.device("cpu"), 2).endswith(f", {cores}, 2 processes")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Accelerator {device.index}")
    assert runtime.hardware(torch.device("cuda:1"), 8).startswith("8 x Accelerator 1, ")
    assert runtime.hardware(torch.device("cuda:1"), 8).endswith(cores)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    assert runtime.cache_folder() == tmp_path
