"""Does a training survive anything? Stops one again and again and compares it with the same one left alone.

    python scripts/dev/torture.py --out out/torture            # 100 kills: a quarter of an hour on an idle machine
    python scripts/dev/torture.py --kills 5 --others 1

Trains the recipe `smoke` through the command line, with accumulation and a worker, and the same command every time.
The run left alone and the last start have a fresh interpreter each; the starts that are stopped are forks of this
process, which has imported everything (the imports take longer than what is of interest).
Kills (SIGKILL, the whole process group) come at random moments, in the start, inside saves and inside the export of the
checkpoint; between them the disk is "full" (a limit on the size of files), Ctrl-C comes once, or twice. After each of
them `latest` must point to a whole state, every state must be whole, and no more may be lost than the steps since the
last save. At the end every safetensors file and the log must equal, bit for bit, those of the run left alone. Prints a
report in Markdown; exits with 1 and keeps both runs at the first thing that does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from arzoo.base import runtime
from arzoo.base.files import file_sha256
from arzoo.cli.__main__ import main as arzoo_main
from arzoo.train.run import state

PACE = "--run.batch 8 --run.accumulate 2 --run.workers 1 --run.threads 1 --run.log-every 1".split()
STEP, SAVE, START, EXPORT = "at a random step", "inside a save", "in the start", "inside the export"
KILLS = {STEP: 40, SAVE: 45, START: 15}
"""What kills aim at, with weights; those that find the run at its end aim at the export of the checkpoint."""
FULL, ONCE, TWICE = "disk full", "Ctrl-C", "Ctrl-C twice"
_END = {FULL: (1, "no room to write"), ONCE: (130, "the same command continues"), TWICE: (130, "")}
"""Exit status of what was not killed, and what it must say."""
PATIENCE = 900
"""Seconds after which a process is taken for stuck."""


@dataclass
class Trial:
    """One start of the command and what stopped it.

    Attributes:
        kind: What was done to it.
        killed: Whether SIGKILL ended it; else it came to an end of its own before.
        inside: It left a half-written state, or a whole one that `latest` did not name yet.
        saved: Step of the newest whole state afterwards.
        lost: Steps it took behind that one, by the log.
    """

    kind: str
    killed: bool
    inside: bool
    saved: int
    lost: int


class Broken(Exception):
    """Something that must always hold does not."""


class Child:
    """The command in a process of its own, with what it says in a file.

    Args:
        arguments: What follows `arzoo`.
        said: The file.
        limit: No file it writes may become larger.
    """

    def __init__(self, arguments: Sequence[str], said: Path, limit: int | None) -> None:
        said.write_bytes(b"")
        self._status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._work(arguments, said, limit)
        with contextlib.suppress(OSError):  # the child does the same, whoever comes first
            os.setpgid(self.pid, self.pid)

    def _work(self, arguments: Sequence[str], said: Path, limit: int | None) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell puts behind it
            descriptor = os.open(said, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            arzoo_main(arguments)
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def send(self, number: int) -> None:
        """Send a signal to it and to its workers, as a terminal does."""
        if self.poll() is None:
            os.killpg(self.pid, number)


class Torture:
    """A run that is stopped again and again.

    Args:
        out: Folder; gets `tortured/`, `alone/` and what the processes said.
        steps: Length of the run.
        save_every: Steps between saved states.
        seed: Decides what is done when.
    """

    def __init__(self, out: Path, steps: int, save_every: int, seed: int) -> None:
        self.out, self.steps, self.save_every, self.luck = out, steps, save_every, random.Random(seed)
        self.run, self.alone, self.said = out / "tortured", out / "alone", out / "said.txt"
        self.trials: list[Trial] = []
        self.start_seconds = 5.0

    def arguments(self, folder: Path) -> list[str]:
        """The training, always the same."""
        pace = [*PACE, "--run.save-every", str(self.save_every), "--run.steps", str(self.steps)]
        return ["train", "smoke", *pace, "--out", str(folder)]

    def undisturbed(self, folder: Path) -> None:
        """The run from where it is to its end, in a fresh interpreter."""
        command = [sys.executable, "-m", "arzoo.cli", *self.arguments(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Broken(f"the run does not come to its end:\n{done.stderr}")

    def told(self) -> str:
        """What the last process said."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    def done(self) -> int:
        """Steps of the running process, which tells each of them."""
        return self.told().count("\nstep ")

    def until(self, child: Child, true: Callable[[], bool]) -> None:
        """Wait until something is true, or the process is gone."""
        end = time.monotonic() + PATIENCE
        while child.poll() is None and not true():
            if time.monotonic() > end:
                child.send(signal.SIGKILL)
                raise Broken(f"waited for {PATIENCE} seconds in vain:\n{self.told()}")
            time.sleep(0.002)

    def strike(self, kind: str) -> None:
        """Start the command, stop it in one way, and check what is left."""
        luck, before, unnamed, started = self.luck, self.saved, self.unnamed(), time.monotonic()
        limit = luck.randrange(200_000, 1_200_000) if kind == FULL else None
        child = Child(self.arguments(self.run), self.said, limit)
        if kind == START:
            end = started + luck.uniform(0, self.start_seconds)
            self.until(child, lambda: time.monotonic() > end)
        elif kind in (SAVE, EXPORT):
            pattern = ".checkpoint.*.partial" if kind == EXPORT else "state/.*.partial"
            self.until(
                child, lambda: not any(self.run.glob(pattern))
            )  # what the last one left is swept first
            self.until(child, lambda: any(self.run.glob(pattern)))
            time.sleep(luck.uniform(0, 0.08))
        elif kind != FULL:
            self.until(child, lambda: self.done() > 0)
            self.start_seconds = time.monotonic() - started
            wanted = luck.randint(1, 2 * self.save_every)
            self.until(child, lambda: self.done() >= wanted)
            time.sleep(luck.uniform(0, 0.3))
        if kind in (ONCE, TWICE):
            child.send(signal.SIGINT)
            time.sleep(luck.uniform(0.01, 0.1))
        if kind not in (ONCE, FULL):
            child.send(signal.SIGINT if kind == TWICE else signal.SIGKILL)
        self.until(child, lambda: False)
        status = child.poll()
        assert status is not None
        self.judge(kind, status, before, unnamed)

    @property
    def saved(self) -> int:
        """Step of the newest state behind the last trial."""
        return self.trials[-1].saved if self.trials else 0

    def unnamed(self) -> str | None:
        """A state that is there and that `latest` does not name yet."""
        newest = max((path.name for path in self.run.glob("state/step_*")), default=None)
        return newest if newest != self.named() else None

    def named(self) -> str | None:
        """What `latest` says."""
        pointer = self.run / "latest"
        return pointer.read_text() if pointer.exists() else None

    def judge(self, kind: str, status: int, before: int, unnamed: str | None = None) -> None:
        """Everything that must hold once a process is gone.

        Args:
            kind: What was done to it.
            status: What it ended with.
            before: Step that was saved when it started.
            unnamed: What `unnamed` was when it started.
        """
        whole = sorted(path.name for path in self.run.glob("state/step_*"))
        for name in {*whole, *filter(None, [self.named()])}:
            if fault := state.damage(self.run / "state" / name):
                raise Broken(f"{name} is not whole behind {kind!r}: {fault}")
        saved = int(whole[-1].removeprefix("step_")) if whole else 0
        lost = last_step(self.run / "log.jsonl") - saved
        if saved < before or not 0 <= lost <= self.save_every:
            raise Broken(f"{kind!r}: saved step {saved} behind {before}, {lost} steps lost")
        halves = any(self.run.glob(".*.partial")) or any(self.run.glob("state/.*.partial"))
        # Before its first step a process has written no state: what lies around is older.
        inside = (halves and (self.done() > 0 or kind == EXPORT)) or self.unnamed() not in (None, unnamed)
        wanted, words = _END.get(kind, (-signal.SIGKILL, ""))
        # What comes too late meets a run that is at its end.
        if status not in (wanted, 0) or (status == wanted and words not in self.told()):
            raise Broken(f"{kind!r} ended with status {status}:\n{self.told()}")
        if kind in (FULL, ONCE) and (inside or (kind == ONCE and status == wanted and lost)):
            raise Broken(f"{kind!r} left something half-written, or lost {lost} steps")
        # A process that took no step lost none; those in the log were lost by the one before.
        self.trials.append(Trial(kind, status == -signal.SIGKILL, inside, saved, lost if self.done() else 0))
        print(f"{len(self.trials)}: {self.trials[-1]}", file=sys.stderr, flush=True)

    def torture(self, kills: int, others: int) -> None:
        """Kill until there were enough kills, with the other stops between them; then let the run end."""
        left = [kind for kind in (FULL, ONCE, TWICE) for _ in range(others)]
        self.luck.shuffle(left)
        share = len(left) / max(kills, 1)
        while (killed := sum(trial.killed for trial in self.trials)) < kills:
            ended = self.saved == self.steps
            if left and not ended and len(self.trials) - killed <= share * killed:
                self.strike(left.pop())
            else:
                kind = self.luck.choices([*KILLS], [*KILLS.values()])[0]
                self.strike(EXPORT if ended else kind)
        self.undisturbed(self.run)

    def compare(self) -> tuple[int, int]:
        """Numbers of files and of log lines that are equal.

        Raises:
            Broken: Something differs.
        """
        ours, theirs = hashes(self.run), hashes(self.alone)
        if not ours or ours != theirs:
            raise Broken(f"weights differ: {sorted(dict(ours.items() ^ theirs.items()))}")
        logs = lines(self.run / "log.jsonl"), lines(self.alone / "log.jsonl")
        if logs[0] != logs[1] or len(logs[0]) != self.steps:
            raise Broken("the logs differ")
        return len(ours), len(logs[0])


def hashes(run: Path) -> dict[str, str]:
    """Every tensor file of the last state and of the checkpoint."""
    last = state.latest(run)
    folders = (run / "checkpoint", last) if last else (run / "checkpoint",)
    files = [file for folder in folders for file in folder.rglob("*.safetensors")]
    return {str(file.relative_to(run)): file_sha256(file) for file in files}


def lines(log: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    found = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_second"} for line in found]


def last_step(log: Path) -> int:
    """Last step of a log; a line that was cut off does not count."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return int(json.loads(whole[-1])["step"]) if whole else 0


def report(torture: Torture, seconds: float, files: int, logged: int) -> str:
    """What happened, in Markdown."""
    kills = [trial for trial in torture.trials if trial.killed]
    kinds = Counter(trial.kind for trial in kills)
    stops = Counter(
        f"{trial.kind}, missed" if trial.kind in (*KILLS, EXPORT) else trial.kind
        for trial in torture.trials
        if not trial.killed
    )
    lost = [trial.lost for trial in kills]
    rows = [
        ("kills (SIGKILL)", f"{len(kills)}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())),
        ("of them with something half-written left, or `latest` behind", sum(t.inside for t in kills)),
        ("other stops", ", ".join(f"{n} x {kind}" for kind, n in stops.items()) or "none"),
        ("starts of the same command", len(torture.trials) + 1),
        ("`latest` and all states whole after each", "yes"),
        ("steps of the run, saved every", f"{torture.steps}, {torture.save_every}"),
        ("steps lost a kill: mean, most", f"{sum(lost) / max(len(lost), 1):.2f}, {max(lost, default=0)}"),
        ("safetensors files equal bit for bit (weights, moments, average, checkpoint)", files),
        ("equal lines of the log", logged),
        ("minutes", f"{seconds / 60:.1f}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture, compare, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--others", type=int, default=3, help="of each other stop (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=80, help="length of the run (default: %(default)s)")
    parser.add_argument("--save-every", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/torture"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"{options.out} exists and is not empty; give another --out, or remove it")
    options.out.mkdir(parents=True, exist_ok=True)
    torture = Torture(options.out, options.steps, options.save_every, options.seed)
    started = time.monotonic()
    try:
        torture.undisturbed(torture.alone)
        torture.torture(options.kills, options.others)
        files, logged = torture.compare()
    except Broken as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    text = report(torture, time.monotonic() - started, files, logged)
    (options.out / "report.md").write_text(text + "\n", encoding="utf-8")
    print(f"{shlex.join(['arzoo', *torture.arguments(torture.run)])}\n{runtime.hardware()}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
