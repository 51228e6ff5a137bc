"""`arzoo data`: the data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.cli.output import table
from arzoo.errors import ArzooError, UsageError


@dataclass(kw_only=True)
class Data:
    """List data sets, or look into one."""

    action: tyro.conf.Positional[Literal["ls", "show"]] = "ls"
    """`ls` lists the built-in data sets, `show` describes one."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """What `show` describes: a data set, or a folder of pictures with a sub-folder a class."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """Where `show` writes a sheet with the first picture of each class."""
    split: Literal["all", "train", "validation"] = "all"
    """Which pictures `show` counts and draws."""
    num: int = 256
    """Pictures on the sheet at most."""
    overwrite: bool = False
    """Replace the sheet if it exists."""

    examples: ClassVar = ("arzoo data ls", "arzoo data show emoji64 --out emoji64.png")

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Names and descriptions, or the facts of one data set."""
        from arzoo import registry

        if self.action == "ls":
            return {name: registry.describe("dataset", name) for name in registry.names("dataset")}
        if not self.name:
            raise UsageError(f"which one? arzoo data show NAME, with a folder or one of: {_names()}")
        if self.num < 1:
            raise UsageError(f"a sheet of {self.num} pictures is empty; give --num at least 1")
        if self.out and Path(self.out).exists() and not self.overwrite:
            raise ArzooError(f"{self.out} exists. Give another --out, or allow it with --overwrite.")
        return _facts(self.name, self.out, self.split, self.num)

    def show(self, document: dict[str, Any]) -> None:
        """A table."""
        document = {k: f"{len(v)}: {', '.join(v)}" if isinstance(v, dict) else v for k, v in document.items()}
        print(table(document.items()))


def _names() -> str:
    from arzoo import registry

    return ", ".join(registry.names("dataset"))


def _facts(name: str, out: str | None, split: str, num: int) -> dict[str, Any]:
    import torch

    from arzoo.data import load

    whole = load(name)
    data = whole if split == "all" else whole.split(split)
    counts = torch.bincount(data.labels, minlength=len(data.classes)).tolist()
    facts = {
        "name": data.name,
        "pictures": len(data),
        "size": list(data.size),
        "split": split,
        "train": int((~whole.held_out).sum()),
        "validation": int(whole.held_out.sum()),
        "captions": data.captions is not None,
        "sha256": whole.sha256,
        "classes": dict(zip(data.classes, counts, strict=True)),
    }
    if data.report:
        facts["skipped"] = list(data.report)
    if out:
        from arzoo.data.transforms import composite
        from arzoo.viz.grid import save_grid

        first = {int(label): row for row, label in reversed(list(enumerate(data.labels)))}
        rows = torch.tensor([first[label] for label in sorted(first)][:num], dtype=torch.long)
        facts["sheet"] = str(save_grid(composite(data.pixels(rows)), out, columns=16))
    return facts
