"""Commands of README and docs run as they are written; `scripts/dev/documented.py` runs those of all pages."""

import re
import shlex
import subprocess

import pytest
from scripted import ROOT, scripts

with scripts("scripts/dev") as load:
    documented = load("documented")

COMMANDS = [command for page in documented.pages() for command in documented.commands(page)]
RUN = [command for command in COMMANDS if not documented.outside(command)]


def test_the_tables_name_commands_that_exist():
    """What is left out, or made shorter, is on a page; and every command is of a kind that can be run."""
    idle = [start for start in documented.OUTSIDE if not any(c.startswith(start) for c in COMMANDS)]
    idle += [
        change.pattern for change in documented.SHORTER if not any(re.search(change.pattern, c) for c in RUN)
    ]
    assert idle == []
    assert {shlex.split(command)[0] for command in RUN} == {"arzoo", "python"}


def test_files_that_commands_read_are_shipped():
    shipped = set(
        subprocess.run(
            ["git", "ls-files", *documented.SHARED], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.split()
    )
    if not shipped:
        pytest.skip("not a checkout")
    read = {word for command in RUN for word in shlex.split(command) if word.startswith(documented.SHARED)}
    assert read >= {"examples/photo.png", "examples/clip.mp4", "scripts/dev/own_drawings.py"}
    assert read <= shipped


def test_trainings_take_two_steps():
    for command in RUN:
        if command.startswith("arzoo train") and "--dry-run" not in command:
            assert "--run.steps 2" in documented.shortened(command)


def test_a_command_that_fails_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(
        documented, "commands", lambda page: ["arzoo recipes cp smoke mine.yaml", "arzoo nothing"]
    )
    (failure,) = documented.run_page("README.md", tmp_path)
    assert failure.startswith("README.md: arzoo nothing\n")
    assert len(list(tmp_path.glob("*/mine.yaml"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/own-pictures.md", "docs/published.md"])
def test_a_page_runs_as_it_is_written(page, tmp_path):
    assert documented.run_page(page, tmp_path) == []
