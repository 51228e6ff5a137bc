"""Running `arzoo evaluate` in tests, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from command import command
from PIL import Image

TINY = ("--net", "tiny")
FAST = (*TINY, "--metrics", "fd", "--bootstrap", "0")


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def evaluate(capsys, *arguments):
    """The document of an evaluation that must work."""
    result = command(capsys, "evaluate", *arguments, "--json")
    assert result.status == 0, result.err
    return result.json
