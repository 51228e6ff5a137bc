"""Write what `arzoo models` shows of this package, so that showing it imports none of the parts.

    python scripts/dev/listings.py      # after a preset, plan, head, ... was added, or what it fits changed

The files are `registry.json` in arzoo/base (names and descriptions) and `matrix.json` in arzoo/generation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arzoo.base import registry
from arzoo.generation import matrix


def names() -> dict[str, Any]:
    """Return by kind its modules, and the names they register with descriptions."""
    return {
        kind: {
            "modules": registry.modules(kind),
            "names": {name: registry.describe(kind, name) for name in _own(kind)},
        }
        for kind in registry.HOMES
    }


def fits() -> dict[str, Any]:
    """Return the rows of the matrix by the backbone that represents its family."""
    backbones, plans, heads = map(_own, ("backbone", "plan", "head"))
    rows = {
        name: matrix.computed_row(name, plans, heads) for name in matrix.representatives(backbones).values()
    }
    return {"plans": plans, "heads": heads, "rows": rows}


def _own(kind: str) -> list[str]:
    """Return the names that the package registers, without those of plug-ins."""
    return [
        name for name in registry.names(kind) if registry.lookup(kind, name).__module__.startswith("arzoo.")
    ]


def write(path: Path, data: dict[str, Any]) -> None:
    """Write a file with one entry a line, so that changes of different parts merge."""
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(registry.LISTING, names())
    write(matrix.LISTING, fits())
