"""Interrupt a training run many times and compare the result with the same run without interruptions.

    python scripts/dev/torture.py --out out/torture            # 100 kills: a quarter of an hour on an idle machine
    python scripts/dev/torture.py --kills 5 --others 1

Trains the recipe `smoke` through the command line, with accumulation and a worker, always with the same command. The
uninterrupted run and the last start use a new interpreter each; the interrupted starts are forks of this process, which
has imported everything, because imports take longer than the part of interest.
Kills (SIGKILL of the process group) come at random moments, during the start, inside saves and inside the export of the
checkpoint; between them the disk is "full" (a limit on the size of files), or Ctrl-C comes once or twice. After each,
`latest` must point to a complete state, every state must be complete, and no more steps may be lost than those since
the last save. At the end every safetensors file and the log must be equal, bit for bit, to those of the uninterrupted
run. Prints a report in Markdown; at the first violation exits with 1 and keeps both runs.
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
"""Targets of kills, with weights; if the run has reached its last step, the target is the export of the checkpoint."""
FULL, ONCE, TWICE = "disk full", "Ctrl-C", "Ctrl-C twice"
_END = {FULL: (1, "no room to write"), ONCE: (130, "the same command continues"), TWICE: (130, "")}
"""Exit status and required output of processes that were not killed."""
PATIENCE = 900
"""Seconds after which a process counts as stuck."""


@dataclass
class Trial:
    """One start of the command and its interruption.

    Attributes:
        kind: Kind of interruption.
        killed: Whether SIGKILL ended it; otherwise it ended by itself before.
        inside: Whether it left a partial state, or a complete one that `latest` did not name yet.
        saved: Step of the newest complete state afterwards.
        lost: Steps after that state, according to the log.
    """

    kind: str
    killed: bool
    inside: bool
    saved: int
    lost: int


class Broken(Exception):
    """An invariant is violated."""


class Child:
    """The command in a child process, with its output in a file.

    Args:
        arguments: Arguments of `arzoo`.
        output: File for the output.
        limit: Largest size of the files it writes.
    """

    def __init__(self, arguments: Sequence[str], output: Path, limit: int | None) -> None:
        output.write_bytes(b"")
        self._status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._work(arguments, output, limit)
        with contextlib.suppress(OSError):  # the child does the same; either may be first
            os.setpgid(self.pid, self.pid)

    def _work(self, arguments: Sequence[str], output: Path, limit: int | None) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs of a shell
            descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
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
    """A run that is interrupted many times.

    Args:
        out: Folder for `tortured/`, `alone/` and the output of the processes.
        steps: Length of the run.
        save_every: Steps between saved states.
        seed: Seed of the choice of interruptions and moments.
    """

    def __init__(self, out: Path, steps: int, save_every: int, seed: int) -> None:
        self.out, self.steps, self.save_every, self.random = out, steps, save_every, random.Random(seed)
        self.run, self.alone, self.output = out / "tortured", out / "alone", out / "output.txt"
        self.trials: list[Trial] = []
        self.start_seconds = 5.0

    def arguments(self, folder: Path) -> list[str]:
        """Arguments of the training run, always the same."""
        pace = [*PACE, "--run.save-every", str(self.save_every), "--run.steps", str(self.steps)]
        return ["train", "smoke", *pace, "--out", str(folder)]

    def undisturbed(self, folder: Path) -> None:
        """Continue the run to its end, in a new interpreter."""
        command = [sys.executable, "-m", "arzoo.cli", *self.arguments(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Broken(f"the run does not finish:\n{done.stderr}")

    def printed(self) -> str:
        """Output of the last process."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def done(self) -> int:
        """Steps that the last process has printed."""
        return self.printed().count("\nstep ")

    def until(self, child: Child, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds or the process has ended."""
        end = time.monotonic() + PATIENCE
        while child.poll() is None and not condition():
            if time.monotonic() > end:
                child.send(signal.SIGKILL)
                raise Broken(f"nothing happened for {PATIENCE} seconds:\n{self.printed()}")
            time.sleep(0.002)

    def strike(self, kind: str) -> None:
        """Start the command, interrupt it, and check the files afterwards."""
        rng, before, unnamed, started = self.random, self.saved, self.unnamed(), time.monotonic()
        limit = rng.randrange(200_000, 1_200_000) if kind == FULL else None
        child = Child(self.arguments(self.run), self.output, limit)
        if kind == START:
            end = started + rng.uniform(0, self.start_seconds)
            self.until(child, lambda: time.monotonic() > end)
        elif kind in (SAVE, EXPORT):
            pattern = ".checkpoint.*.partial" if kind == EXPORT else "state/.*.partial"
            # The process first removes partial files of the previous one.
            self.until(child, lambda: not any(self.run.glob(pattern)))
            self.until(child, lambda: any(self.run.glob(pattern)))
            time.sleep(rng.uniform(0, 0.08))
        elif kind != FULL:
            self.until(child, lambda: self.done() > 0)
            self.start_seconds = time.monotonic() - started
            steps = rng.randint(1, 2 * self.save_every)
            self.until(child, lambda: self.done() >= steps)
            time.sleep(rng.uniform(0, 0.3))
        if kind in (ONCE, TWICE):
            child.send(signal.SIGINT)
            time.sleep(rng.uniform(0.01, 0.1))
        if kind not in (ONCE, FULL):
            child.send(signal.SIGINT if kind == TWICE else signal.SIGKILL)
        self.until(child, lambda: False)
        status = child.poll()
        assert status is not None
        self.judge(kind, status, before, unnamed)

    @property
    def saved(self) -> int:
        """Step of the newest state after the last trial."""
        return self.trials[-1].saved if self.trials else 0

    def unnamed(self) -> str | None:
        """Name of a newer state than the one that `latest` names, None if there is none."""
        newest = max((path.name for path in self.run.glob("state/step_*")), default=None)
        return newest if newest != self.named() else None

    def named(self) -> str | None:
        """Name of the state in `latest`."""
        pointer = self.run / "latest"
        return pointer.read_text() if pointer.exists() else None

    def judge(self, kind: str, status: int, before: int, unnamed: str | None = None) -> None:
        """Check all invariants after a process has ended.

        Args:
            kind: Kind of interruption.
            status: Exit status of the process.
            before: Step that was saved when it started.
            unnamed: Result of `unnamed` when it started.
        """
        states = sorted(path.name for path in self.run.glob("state/step_*"))
        for name in {*states, *filter(None, [self.named()])}:
            if fault := state.damage(self.run / "state" / name):
                raise Broken(f"{name} is damaged after {kind!r}: {fault}")
        saved = int(states[-1].removeprefix("step_")) if states else 0
        lost = last_step(self.run / "log.jsonl") - saved
        if saved < before or not 0 <= lost <= self.save_every:
            raise Broken(f"{kind!r}: saved step {saved} after {before}, {lost} steps lost")
        partial = any(self.run.glob(".*.partial")) or any(self.run.glob("state/.*.partial"))
        # Before its first step a process writes no state, so partial files are from an earlier one.
        inside = (partial and (self.done() > 0 or kind == EXPORT)) or self.unnamed() not in (None, unnamed)
        expected, words = _END.get(kind, (-signal.SIGKILL, ""))
        # Status 0: the interruption came too late and the run had finished.
        if status not in (expected, 0) or (status == expected and words not in self.printed()):
            raise Broken(f"{kind!r} ended with status {status}:\n{self.printed()}")
        if kind in (FULL, ONCE) and (inside or (kind == ONCE and status == expected and lost)):
            raise Broken(f"{kind!r} left a partial file, or lost {lost} steps")
        # A process that took no step lost none; the previous one lost those in the log.
        self.trials.append(Trial(kind, status == -signal.SIGKILL, inside, saved, lost if self.done() else 0))
        print(f"{len(self.trials)}: {self.trials[-1]}", file=sys.stderr, flush=True)

    def torture(self, kills: int, others: int) -> None:
        """Kill the run `kills` times, with `others` of each other interruption between; then let it finish."""
        kinds = [kind for kind in (FULL, ONCE, TWICE) for _ in range(others)]
        self.random.shuffle(kinds)
        share = len(kinds) / max(kills, 1)
        while (killed := sum(trial.killed for trial in self.trials)) < kills:
            ended = self.saved == self.steps
            if kinds and not ended and len(self.trials) - killed <= share * killed:
                self.strike(kinds.pop())
            else:
                kind = self.random.choices([*KILLS], [*KILLS.values()])[0]
                self.strike(EXPORT if ended else kind)
        self.undisturbed(self.run)

    def compare(self) -> tuple[int, int]:
        """Compare both runs; return the numbers of equal files and of equal log lines.

        Raises:
            Broken: A file or the log differs.
        """
        tortured, alone = hashes(self.run), hashes(self.alone)
        if not tortured or tortured != alone:
            raise Broken(f"weights differ: {sorted(dict(tortured.items() ^ alone.items()))}")
        logs = lines(self.run / "log.jsonl"), lines(self.alone / "log.jsonl")
        if logs[0] != logs[1] or len(logs[0]) != self.steps:
            raise Broken("the logs differ")
        return len(tortured), len(logs[0])


def hashes(run: Path) -> dict[str, str]:
    """Hashes of all tensor files of the last state and of the checkpoint."""
    last = state.latest(run)
    folders = (run / "checkpoint", last) if last else (run / "checkpoint",)
    files = [file for folder in folders for file in folder.rglob("*.safetensors")]
    return {str(file.relative_to(run)): file_sha256(file) for file in files}


def lines(log: Path) -> list[dict[str, Any]]:
    """Lines of a log, without fields that depend on the clock."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_second"} for line in records]


def last_step(log: Path) -> int:
    """Last step of a log; an incomplete line does not count."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    complete = text[: text.rfind("\n") + 1].splitlines()
    return int(json.loads(complete[-1])["step"]) if complete else 0


def report(torture: Torture, seconds: float, files: int, logged: int) -> str:
    """Report in Markdown."""
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
        ("of these, with a partial file left or `latest` not updated", sum(t.inside for t in kills)),
        ("other interruptions", ", ".join(f"{n} x {kind}" for kind, n in stops.items()) or "none"),
        ("starts of the same command", len(torture.trials) + 1),
        ("`latest` and all states complete after each", "yes"),
        ("steps of the run, saved every", f"{torture.steps}, {torture.save_every}"),
        (
            "steps lost per kill: mean, largest",
            f"{sum(lost) / max(len(lost), 1):.2f}, {max(lost, default=0)}",
        ),
        ("safetensors files equal bit for bit (weights, moments, average, checkpoint)", files),
        ("equal lines of the log", logged),
        ("minutes", f"{seconds / 60:.1f}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Interrupt, compare and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--others", type=int, default=3, help="of each other kind (default: %(default)s)")
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
