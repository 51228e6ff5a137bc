"""Shell completion, asked of a real shell, and progress without a terminal."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from command import command

from arzoo.base import console
from arzoo.cli.__main__ import VERBS


def completions(script: str, *words: str) -> list[str]:
    """What bash offers for the last of some words."""
    ask = f"""{script}
COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}
"$(complete -p arzoo | sed 's/.*-F \\([^ ]*\\) .*/\\1/')"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_verbs_options_and_choices(capsys):
    script = command(capsys, "completion", "bash").out
    assert set(completions(script, "arzoo", "")) >= set(VERBS)
    assert completions(script, "arzoo", "gen") == ["generate"]
    assert "--guidance" in completions(script, "arzoo", "generate", "--")
    assert "--json" in completions(script, "arzoo", "doctor", "--")
    assert completions(script, "arzoo", "generate", "--precision", "b") == ["bf16"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(capsys, shell):
    script = command(capsys, "completion", shell, "--json").json["script"]
    assert all(verb in script for verb in VERBS)
    assert "top-k" in script


def test_progress_in_plain_lines(capsys, monkeypatch):
    clock = iter([0, 1, 4, 12, 13, 30])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("drawing", "network calls") as tell:
        for done in (2, 10, 30, 32, 75):
            tell(done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "drawing: 10 of 100 network calls, 2.5 a second, about 36 s left",
        "drawing: 75 of 100 network calls, 2.5 a second, about 10 s left",
    ]
