"""Figures of a claim, `docs/claims/NAME.json`; the results page shows them below the conclusion in `NAME.md`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arzoo.base import runtime

CLAIMS = Path(__file__).resolve().parents[3] / "docs" / "claims"


def with_error(value: float | None, error: float | None, digits: int) -> str:
    """A cell of a table: a figure, and its standard error if it has one; a dash if there is no figure."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def write(
    name: str,
    title: str,
    head: Sequence[str],
    cells: Sequence[Sequence[str]],
    rows: dict[str, Any],
    *,
    pictures: int,
    seeds: Sequence[int],
    protocol: dict[str, Any],
    noun: str = "pictures",
) -> None:
    """Write the figures of a claim.

    Args:
        name: Name of the file.
        title: Title of the claim.
        head: Columns of the table.
        cells: Lines of the table.
        rows: All measurements.
        pictures: Number of pictures or clips, per seed where there are several.
        seeds: Seeds of what is random; none where nothing is.
        protocol: How the figures were measured.
        noun: What was counted.
    """
    CLAIMS.mkdir(parents=True, exist_ok=True)
    record = {
        "title": title, "command": f"python {shlex.join(sys.argv)}", "n": pictures, "noun": noun, "seeds": list(seeds),
        "protocol": protocol, "versions": runtime.versions(), "hardware": runtime.hardware(),
        "head": list(head), "cells": [list(line) for line in cells], "rows": rows,
    }  # fmt: skip
    (CLAIMS / f"{name}.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    print(f"wrote {CLAIMS / name}.json; its conclusion belongs into {name}.md beside it")
