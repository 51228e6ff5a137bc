"""Two processes never write into one folder, whatever the verb."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import toy
from command import command, failing, picture, ten_pictures, tiny_models

from arzoo.base import lock, registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.output import output_folder
from arzoo.metrics.protocol import Protocol
from arzoo.metrics.record import record


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setitem(registry._entries["dataset"], "ten", ten_pictures)
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        picture(tmp_path / f"{i}.png", seed=i)
    return tiny_models(tmp_path)


@pytest.fixture
def holder():
    """Hold a folder in another process until the test ends."""
    children = []

    def hold(folder, then=lambda: time.sleep(60)):
        ready, held = os.pipe()

        def work():
            with lock.alone(folder):
                os.write(held, b"1")
                then()

        children.append(toy.in_process(work))
        os.read(ready, 1)
        return children[-1]

    yield hold
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


VERBS = {
    "generate": ["generate", "gen", "--num", "1", "--out", "out"],
    "reconstruct": ["reconstruct", "0.png", "--tokenizer", "tok", "--out", "out"],
    "tokenize": ["tokenize", "ten", "--tokenizer", "tok", "--out", "out"],
    "evaluate": ["evaluate", "tok", "--reference", "ten", "--metrics", "psnr", "--out", "out"],
    "convert": ["convert", "gen", "out", "--bits", "16"],
    "export": ["checkpoints", "export", "gen", "out"],
    "rm": ["checkpoints", "rm", "out", "--yes"],
    "train": ["train", "smoke", "--out", "out"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_in_which_another_process_works(capsys, work, holder, verb):
    arguments = VERBS[verb]
    if verb == "rm":
        assert command(capsys, "checkpoints", "export", "gen", "out").status == 0
    elif verb not in ("train", "tokenize"):
        arguments = [*arguments, "--overwrite"]
    holder(work / "out")
    before = sorted(path.name for path in (work / "out").iterdir())
    result = command(capsys, *arguments)
    failing(result, "another process ", " out. Wait until it is done, stop it, or give another --out")
    assert sorted(path.name for path in (work / "out").iterdir()) == before


def test_what_another_process_wrote_meanwhile_is_not_overwritten(capsys, work):
    with output_folder("out", False, []) as output:
        output.path("mine").touch()
    assert sorted(path.name for path in (work / "out").iterdir()) == ["mine", "run.json"], "no lock stays"
    with pytest.raises(ArzooError, match="not empty"), output_folder("out", False, []):
        pass
    (work / "fresh").mkdir()
    (work / "fresh" / lock.FILE).touch()
    with output_folder("fresh", False, []):  # the lock that a killed process left is nothing to keep
        pass


def test_a_killed_process_holds_nothing_though_its_fork_lives(tmp_path, holder):
    ready, forked = os.pipe()

    def fork():
        child = os.fork()
        if child:
            os.write(forked, str(child).encode())
        time.sleep(60)

    parent = holder(tmp_path, fork)
    child = int(os.read(ready, 32))
    os.kill(parent, signal.SIGKILL)
    try:
        with lock.alone(tmp_path):
            os.kill(child, 0)  # still there
    finally:
        os.kill(child, signal.SIGKILL)


def figures(name):
    words = dict.fromkeys(
        ("net", "net_sha256", "resize", "reference", "reference_sha256", "size", "seeds", "labels"), "x"
    )
    protocol = Protocol(n=2, n_reference=2, **words)
    return {"figures": {name: {"value": 1.0}}, "protocol": protocol.to_dict()}


def test_figures_of_two_evaluations_are_both_kept(work, holder, capfd):
    checkpoint = open_checkpoint("gen")

    def slowly():
        time.sleep(1)
        record(checkpoint, figures("one"))
        os._exit(0)

    holder(checkpoint.folder, slowly)
    record(checkpoint, figures("two"))
    assert {name.partition("@")[0] for name in checkpoint.metrics} == {"one", "two"}
    assert "Waiting until it is done" in capfd.readouterr().err


@pytest.mark.parametrize("verb", ["generate", "reconstruct", "tokenize", "convert", "export"])
def test_several_processes_of_a_launcher_are_refused(capsys, work, monkeypatch, verb):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = command(capsys, *VERBS[verb], "--json")
    failing(result, "works in one process", "2 processes", "Start it without", status=2)
    assert "one process" in json.loads(result.out)["error"]
    assert not (work / "out").exists()
