"""A run that continues is the run that was never stopped, whatever stopped it."""

import errno
import io
import json
import os
import random
import signal
import time

import pytest
import torch
import toy

from arzoo.base import files
from arzoo.base.errors import ArzooError, Interrupted
from arzoo.train.engine import Engine
from arzoo.train.run import state
from arzoo.train.run.lineage import refuse_other
from arzoo.train.run.log import cut_log


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As many as the children have: sums are split by threads, and equality is meant bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Twenty steps in one go, with accumulation and two parts."""
    out = tmp_path_factory.mktemp("whole")
    toy.train(out, objective=toy.Toy(critic=True), accumulate=2)
    return out


def again(out, max_steps=None, **run):
    return toy.train(out, max_steps, toy.Toy(critic=True), accumulate=2, **run)


def lines(out):
    """The log without what depends on the clock."""
    found = [json.loads(line) for line in (out / "log.jsonl").open()]
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in found]


def final(out):
    state, checkpoint = toy.tensors(out / "state" / "step_0000020"), toy.tensors(out / "checkpoint")
    return state | {f"checkpoint/{key}": value for key, value in checkpoint.items()}


def equals(out, whole):
    without = [{k: v for k, v in line.items() if k != "seen"} for line in lines(out)]
    assert without == [{k: v for k, v in line.items() if k != "seen"} for line in lines(whole)]
    assert toy.same(final(out), final(whole))


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_steps_are_five_and_five(whole, tmp_path, workers):
    for end in (5, 10, 13, None):
        again(tmp_path, end, workers=workers)
    equals(tmp_path, whole)
    files = {path.name for path in (tmp_path / "state" / "step_0000020").iterdir()}
    assert {"model.safetensors", "model.optimizer.safetensors", "critic.optimizer.safetensors"} <= files
    assert any("exp_avg" in name for name in final(tmp_path))


def test_settings_of_pace_may_change_and_others_may_not(whole, tmp_path):
    again(tmp_path, 6)
    again(tmp_path, 9, log_every=2, save_every=3, keep=5)
    with pytest.raises(ArzooError, match=r"differ in: run\.seed\)"):
        again(tmp_path, seed=1)
    again(tmp_path)
    assert toy.same(final(tmp_path), final(whole))
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 8, 9, *range(10, 21)]


class Fed(toy.Toy):
    """The toy with a data set and a tokenizer of its own."""

    def __init__(self, data="0" * 64, tokenizer="t" * 64):
        super().__init__()
        self.lineage = {
            "data": {"name": "mine", "sha256": data},
            "tokenizer": {"name": "vq", "weights": tokenizer},
        }


def test_other_data_or_another_tokenizer_under_the_same_name_does_not_continue(tmp_path):
    toy.train(tmp_path, 5, Fed())
    with pytest.raises(ArzooError, match=r"data\.sha256 was 000000000000, is 111111111111\).*--resume"):
        toy.train(tmp_path, 6, Fed(data="1" * 64))
    with pytest.raises(ArzooError, match=r"tokenizer\.weights was tttttttttttt, is uuuuuuuuuuuu\)"):
        toy.train(tmp_path, 6, Fed(tokenizer="u" * 64))
    assert toy.train(tmp_path, 6, Fed()).step == 6
    other = toy.train(tmp_path / "other", 7, Fed(data="1" * 64), resume=state.latest(tmp_path))
    assert other.step == 7, "begun on purpose from another run"


HASHES = {
    "data": {"name": "pics", "sha256": "1" * 64, "codes": "codes/a"},
    "tokenizer": {"name": "vq", "weights": "2" * 64},
    "init": {"name": "runs/first", "weights": {"backbone": "3" * 64}},
}
NAMES = {"data": "pics", "codes": "codes/a", "tokenizer": "vq", "init": "runs/first"}


def test_what_has_the_hash_of_the_run_may_lie_elsewhere(tmp_path):
    saved = {"recipe": NAMES, "lineage": HASHES}
    moved = {
        part: {k: f"other/{v}" if k in ("name", "codes") else v for k, v in facts.items()}
        for part, facts in HASHES.items()
    }
    now = {"recipe": {key: f"other/{value}" for key, value in NAMES.items()}, "lineage": moved}
    refuse_other(tmp_path, saved, now)
    for part, key in (("data", "sha256"), ("tokenizer", "weights"), ("init", "weights")):
        other = {**moved, part: {**moved[part], key: "4" * 64}}
        with pytest.raises(ArzooError, match=f"{part}.{key} was .*, is 444444444444"):
            refuse_other(tmp_path, saved, {**now, "lineage": other})
        without = {name: facts for name, facts in HASHES.items() if name != part}
        with pytest.raises(ArzooError, match=f"they differ in: .*{part}"):
            refuse_other(tmp_path, {**saved, "lineage": without}, now)


def test_a_state_without_lineage_continues(tmp_path, monkeypatch):
    save = state.save

    def older(out, step, files, extra, *rest):
        save(out, step, files, {k: v for k, v in extra.items() if k != "lineage"}, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(state, "save", older)
        toy.train(tmp_path, 5, Fed())
    assert "lineage" not in state.trainer(state.latest(tmp_path))
    assert toy.train(tmp_path, 6, Fed()).step == 6


def test_another_run_begins_with_a_saved_state(whole, tmp_path):
    again(tmp_path / "a", 10)
    source = state.find(tmp_path / "a")
    assert source.name == "step_0000010"
    engine = toy.train(tmp_path / "b", 12, toy.Toy(critic=True), {"lr": 1e-4}, resume=source, accumulate=2)
    assert engine.step == 12
    assert lines(tmp_path / "b")[0]["step"] == 11
    assert lines(tmp_path / "b")[0]["lr"] < lines(whole)[10]["lr"] / 2
    assert (
        toy.train(tmp_path / "b", 13, toy.Toy(critic=True), {"lr": 1e-4}, resume=source, accumulate=2).step
        == 13
    )
    assert [line["step"] for line in lines(tmp_path / "b")] == [11, 12, 13], "its own state goes first"
    with pytest.raises(ArzooError, match="holds no saved state"):
        state.find(tmp_path)


def test_lines_behind_the_saved_step_are_removed(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    cut_log(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    cut_log(path, 0)
    assert path.read_text() == ""


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "no manifest"])
def test_a_damaged_state_is_passed_over(whole, tmp_path, harm):
    out = toy.copy(whole, tmp_path / "run")
    newest = state.latest(out)
    file = newest / "ema.safetensors"
    if harm == "truncate":
        os.truncate(file, file.stat().st_size // 2)
    elif harm == "flip":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    else:
        (newest / "manifest.json" if harm == "no manifest" else file).unlink()
    said = io.StringIO()
    engine = toy.train(out, None, toy.Toy(critic=True), accumulate=2, say=said)
    assert "step_0000020 is not whole" in said.getvalue()
    assert engine.step == 20
    equals(out, whole)
    for folder in (out / "state").iterdir():
        os.truncate(folder / "ema.safetensors", 3)
    with pytest.raises(ArzooError, match=r"no saved state in .* is whole"):
        again(out)


def test_old_states_are_removed(tmp_path):
    again(tmp_path, keep=2)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["step_0000015", "step_0000020"]
    assert (tmp_path / "latest").read_text() == "step_0000020"


def check(out):
    """What must hold at any moment: `latest` points to a whole state, and the log knows no step twice."""
    pointer = out / "latest"
    if pointer.exists():
        assert state.damage(out / "state" / pointer.read_text()) is None
    path = out / "log.jsonl"
    found = path.read_text().splitlines() if path.exists() else []
    steps = [json.loads(line)["step"] for line in found[:-1]]
    assert steps == sorted(set(steps))
    folder = state.latest(out)
    saved = state.trainer(folder)["step"] if folder else 0
    assert saved <= len(found), "the log lacks a saved step"
    return saved


def attempt(out, strike=None, number=0):
    if strike:
        strike(number)
    again(out, workers=1)


def test_kills_at_random_moments_and_inside_saves(whole, tmp_path):
    luck, kills, saved = random.Random(0), 0, 0
    strikes = [(toy.die_writing, 2), (toy.die_renaming, 3), (toy.die_writing, 5), (toy.die_renaming, 5)]
    for strike, number in [*strikes, (None, 0), (None, 0)]:
        child = toy.in_process(attempt, tmp_path, strike, number)
        if not strike:
            time.sleep(luck.uniform(0.05, 0.6))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        kills += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or not strike
        before, saved = saved, check(tmp_path)
        assert saved >= before
    assert kills >= len(strikes)
    again(tmp_path)
    equals(tmp_path, whole)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_kill_before_the_first_save_leaves_no_line_twice(whole, tmp_path):
    child = toy.in_process(attempt, tmp_path, toy.die_writing, 1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert len(lines(tmp_path)) == 5
    again(tmp_path)
    equals(tmp_path, whole)


@pytest.mark.parametrize("target", ["state", "latest", "log"])
def test_a_full_disk_loses_nothing_and_says_what_to_do(whole, tmp_path, monkeypatch, target):
    again(tmp_path, 7)

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if target == "state":
            patch.setattr("safetensors.torch.save_file", full)
        elif target == "latest":
            patch.setattr(files, "sync", lambda path: full() if path.name.startswith(".latest.") else None)
        else:
            patch.setattr("arzoo.train.run.log.json.dumps", full)
        with pytest.raises(ArzooError, match=r"no room to write .* free.*the same command continues"):
            again(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    assert check(tmp_path) >= 7
    again(tmp_path)
    assert toy.same(final(tmp_path), final(whole))


def test_a_page_that_cannot_be_written_loses_no_state(tmp_path, monkeypatch):
    def full(*arguments):
        raise ArzooError("no room to write index.html")

    monkeypatch.setattr("arzoo.train.run.page.RunPage.write", full)
    with pytest.raises(ArzooError, match="no room to write index"):
        again(tmp_path, preview_every=5)
    assert state.latest(tmp_path).name == "step_0000005"


def test_a_real_limit_on_the_size_of_files_is_explained(tmp_path):
    import resource

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        with pytest.raises(ArzooError, match="no room to write"):
            again(tmp_path)

    child = toy.in_process(limited)
    assert os.waitpid(child, 0)[1] == 0
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize(
    ("signals", "workers"), [([signal.SIGINT], 0), ([signal.SIGTERM], 1), ([signal.SIGHUP, signal.SIGHUP], 1)]
)
def test_an_interrupt_finishes_the_step_and_saves(whole, tmp_path, monkeypatch, signals, workers):
    update = Engine._update

    def interrupted(self, *arguments):
        for number in signals if self.step == 6 else ():
            os.kill(os.getpid(), number)
        return update(self, *arguments)

    monkeypatch.setattr(Engine, "_update", interrupted)
    before, hung_up = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.raises(Interrupted, match="stopped after step 7, saved; the same command continues"):
        again(tmp_path, workers=workers)
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.signal(signal.SIGHUP, hung_up) == signal.SIG_DFL
    assert state.latest(tmp_path).name == "step_0000007"
    monkeypatch.undo()
    again(tmp_path)
    equals(tmp_path, whole)


def test_nohup_stays_in_force(whole, tmp_path, monkeypatch):
    update = Engine._update

    def hung_up(self, *arguments):
        os.kill(os.getpid(), signal.SIGHUP)
        return update(self, *arguments)

    monkeypatch.setattr(Engine, "_update", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        again(tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    equals(tmp_path, whole)


class Gone(io.StringIO):
    """A console that is not there any more: every write fails, as to a closed terminal."""

    def write(self, text):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_that_fails_is_lost_output_and_no_more(whole, tmp_path, monkeypatch, terminal):
    console = Gone()
    console.isatty = lambda: terminal
    toy.train(tmp_path, objective=toy.Toy(critic=True), accumulate=2, say=console)
    equals(tmp_path, whole)


def test_a_finished_run_still_leaves_its_checkpoint_and_figures(whole, tmp_path):
    out = toy.copy(whole, tmp_path / "run")
    for path in (out / "checkpoint").iterdir():
        path.unlink()
    engine = again(out)
    assert engine.fit() == {"seen": 20.0}
    equals(out, whole)


def test_the_average_and_buffers_are_part_of_the_state(whole):
    found = final(whole)
    ema = {k: v for k, v in found.items() if k.startswith("ema.safetensors:")}
    model = {k: v for k, v in found.items() if k.startswith("model.safetensors:")}
    weight = "blocks.0.linear.weight"
    assert not torch.equal(ema[f"ema.safetensors:{weight}"], model[f"model.safetensors:{weight}"])
    assert int(model["model.safetensors:seen"]) == 20
