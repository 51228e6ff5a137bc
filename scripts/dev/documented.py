"""Run the commands of README and docs as they are written, page after page, each page in an empty folder.

    python scripts/dev/documented.py                        # all pages
    python scripts/dev/documented.py README.md docs/video.md

A page's commands run in order, beside the folders `examples` and `scripts` of the checkout, so a file that a command
reads is shipped there or was made by a command above it. Trainings take two steps, and `SHORTER` says what else is made
smaller. `OUTSIDE` lists the commands that need what is not here, with the reason. Both are checked against the pages.

Data, codes and trained verifiers stay in the user's cache; named checkpoints go into the folder of the page.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.S | re.M)
SHARED = ("examples", "scripts")
"""Folders of the checkout that commands read."""

INSTALLS = "installs; .ci/run does it from nothing"
PUBLISHED = "reads published weights, which are not shipped"
MACHINES = "starts several processes; tests/test_launches.py runs it with two of them on one machine"
OUTSIDE: dict[str, str] = {
    "arzoo demo": "serves its page until Ctrl-C",
    "scripts/quickstart.sh": INSTALLS,
    "scripts/test.sh": INSTALLS,
    "source .venv/bin/activate": INSTALLS,
    "pip install": INSTALLS,
    "arzoo convert": PUBLISHED,
    "arzoo generate llamagen_b_256": PUBLISHED,
    "arzoo generate checkpoints/nbp_ucf": PUBLISHED,
    "arzoo generate checkpoints/nbp_k600": PUBLISHED,
    "arzoo reconstruct clips/ --tokenizer checkpoints/omnitok": PUBLISHED,
    "arzoo evaluate samples.npz": "reads samples and a reference of another tool, and a published network",
    "arzoo evaluate out/clips --reference my_clips --fps 8 --preset stylegan-v": "reads the published I3D network",
    "torchrun": MACHINES,
    "accelerate launch": MACHINES,
    "srun torchrun": MACHINES,
    "export ARZOO_CACHE=/shared/arzoo": "belongs to the script for Slurm",
}
"""Commands that are not run, by their beginning, and why."""


class Change(NamedTuple):
    """What makes a command shorter: a pattern, what replaces it, and why that shows the same."""

    pattern: str
    replacement: str
    reason: str


SHORTER: tuple[Change, ...] = (
    Change(
        r"^(arzoo train (?!.*--(?:dry-run|max-steps|run\.steps)).*)$",
        r"\1 --run.steps 2",
        "a whole training of two steps, as a generator needs a tokenizer that is finished",
    ),
    Change(
        r"^(arzoo train (?!value_|.*--(?:data|codes|dry-run)\b).*)$",
        r"\1 limit=200",
        "two steps see no more pictures than that, and the tokens of all of them take minutes",
    ),
    Change(
        r"^(arzoo train value_.*)$", r"\1 --value.rollouts 60", "a value model of 60 pictures is one, too"
    ),
    Change(r"^(arzoo evaluate runs/\S+)", r"\1 --num 16", "figures of 16 pictures are as good for a look"),
)
"""Changes, applied in turn to every command of every page that runs."""


def pages() -> list[str]:
    """README, then the pages of docs that have commands; the log has those of the day on which they were run."""
    names = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    return [name for name in names if name != "docs/log.md" and commands(name)]


def commands(page: str) -> list[str]:
    """The commands in the fenced blocks of a page, in order, without their remarks."""
    blocks = FENCED.findall((ROOT / page).read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines = [re.sub(r"(^|\s+)#.*", "", line) for line in lines]
    return [" ".join(line.split()) for line in lines if line.strip()]


def outside(command: str) -> str | None:
    """Why a command is not run; None if it is."""
    return next((reason for start, reason in OUTSIDE.items() if command.startswith(start)), None)


def shortened(command: str) -> str:
    """The command that is run in its place."""
    for change in SHORTER:
        command = re.sub(change.pattern, change.replacement, command)
    return command


def folder_of_page(parent: Path) -> Path:
    """An empty folder with links to what the checkout ships, and the program `arzoo` of this checkout."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    program = folder / ".bin" / "arzoo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m arzoo.cli "$@"\n')
    program.chmod(0o755)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Variables under which the commands of a folder run."""
    path = os.pathsep.join([str(folder / ".bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "ARZOO_HOME": str(folder / ".home"), "PATH": path, "PYTHONPATH": str(ROOT)}


def run_page(page: str, parent: Path, show: bool = False) -> list[str]:
    """Run the commands of a page that need nothing from outside.

    Args:
        page: Its path in the repository.
        parent: Where its folder is made.
        show: Print every command with its seconds as it ends.

    Returns:
        For each command that failed, the command and the end of its output. Those after it run all the same.
    """
    folder, failures = folder_of_page(parent), []
    variables = environment(folder)
    for command in commands(page):
        if outside(command):
            continue
        line, start = shortened(command), time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if show:
            print(f"{time.monotonic() - start:6.1f} s  {done.returncode}  {line}", flush=True)
        if done.returncode:
            failures.append(f"{page}: {line}\n{done.stdout[-2000:]}")
    return failures


def main(chosen: Sequence[str]) -> int:
    """Run pages and print what failed; the exit status."""
    unknown = set(chosen) - set(pages())
    if unknown:
        print(f"no such page with commands: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    failures = []
    with tempfile.TemporaryDirectory() as parent:
        for page in chosen or pages():
            print(page, flush=True)
            failures += run_page(page, Path(parent), show=True)
    print("\n\n".join(failures) or "all commands succeeded")
    return int(bool(failures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", help="pages, such as docs/video.md (default: all)")
    sys.exit(main(parser.parse_args().pages))
