"""CPU seconds and peak memory of commands, as multiples of those of `python -c "import torch"`.

Every round measures all of them one after another, so that other work on the machine slows all alike; shown are the
medians. A process of its own with one thread each. This one imports no torch, because a new process counts the memory
of the one that starts it as its own.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 9 --only generate
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from arzoo.base.console import table

TORCH = "import torch"


class Command(NamedTuple):
    """Arguments of `arzoo`, and the largest multiples that are accepted."""

    words: str
    seconds: float
    memory: float | None = None


COMMANDS = (
    Command("generate --num 1", 1.5, 1.25),
    Command("models", 0.5),
    Command("models --matrix", 0.5),
    Command("recipes ls", 0.5),
    Command("checkpoints ls", 0.5),
)


class Cost(NamedTuple):
    """What a process took: CPU seconds, and its peak memory in MB."""

    seconds: float
    memory: float


def cost(words: Sequence[str], folder: str) -> Cost:
    """Run Python with arguments in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        message = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{message}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def measure(commands: Sequence[Command], rounds: int) -> dict[str, Cost]:
    """Return the median costs of each command and of importing torch."""
    costs: dict[str, list[Cost]] = {}
    with TemporaryDirectory() as folder:
        for turn in range(rounds):
            costs.setdefault(TORCH, []).append(cost(["-c", TORCH], folder))
            for command in commands:
                words = command.words.split()
                words += ["--out", str(Path(folder, str(turn)))] if words[0] == "generate" else []
                costs.setdefault(command.words, []).append(cost(["-m", "arzoo.cli", *words], folder))
    return {name: Cost(*map(statistics.median, zip(*turns, strict=True))) for name, turns in costs.items()}


def main() -> None:
    """Measure, print, and exit with 1 if a command takes more than it may."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[""], help="starts of the commands to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    commands = [command for command in COMMANDS if command.words.startswith(tuple(arguments.only))]
    costs = measure(commands, arguments.rounds)
    torch, rows, failed = costs[TORCH], [], False
    for command in commands:
        own = costs[command.words]
        times, share = own.seconds / torch.seconds, own.memory / torch.memory
        failed |= times > command.seconds or share > (command.memory or share)
        rows.append(
            {
                "command": command.words, "seconds": round(own.seconds, 2), "times": round(times, 2),
                "times_at_most": command.seconds, "MB": round(own.memory), "memory_times": round(share, 2),
                "memory_times_at_most": command.memory,
            }
        )  # fmt: skip
    if arguments.json:
        print(json.dumps({"torch": torch._asdict(), "commands": rows}, indent=2))
    else:
        print(f"{TORCH}: {torch.seconds:.2f} s, {torch.memory:.0f} MB")
        print(table(([str(v if v is not None else "") for v in row.values()] for row in rows), list(rows[0])))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
