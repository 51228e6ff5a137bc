"""What commands import: drawing no compiler, and listings not even torch."""

import subprocess
import sys

RUN = """
import sys
from arzoo.cli.__main__ import main
for words in {commands!r}:
    try:
        main(words)
    except SystemExit as stop:
        assert not stop.code, words
print("imported", *(name for name in {modules!r} if name in sys.modules))
"""


def imported(modules: list[str], *commands: list[str]) -> list[str]:
    """Names among the modules that a new process has imported after some commands."""
    code = RUN.format(commands=commands, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_listings_do_not_import_torch():
    listings = [
        ["models"],
        ["models", "--matrix"],
        ["models", "nar_*", "--kind", "backbone"],
        ["checkpoints", "ls"],
        ["recipes", "ls"],
        ["data", "ls"],
    ]
    assert imported(["torch", "numpy", "timm"], *listings) == []


def test_help_imports_neither_torch_nor_the_page_of_the_demo():
    assert imported(["torch", "gradio"], ["--help"], ["demo", "--help"]) == []


def test_drawing_imports_neither_the_compiler_nor_what_only_metrics_and_training_need(tmp_path):
    needless = [
        "torch._dynamo",
        "torch._inductor",
        "sympy",
        "timm",
        "torchvision",
        "torchmetrics",
        "accelerate",
    ]
    assert imported(needless, ["generate", "--num", "1", "--out", str(tmp_path / "out")]) == []
