"""`arzoo data`: the data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.cli.output import table
from arzoo.errors import ArzooError


@dataclass(kw_only=True)
class Data:
    """List data sets, or look into one."""

    action: tyro.conf.Positional[Literal["ls", "show"]] = "ls"
    """`ls` lists the built-in data sets, `show` describes one."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """What `show` describes: a data set, or a folder of pictures with a sub-folder a class."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """Where `show` writes a sheet of the first pictures of each class."""

    examples: ClassVar = ("arzoo data ls", "arzoo data show emoji64 --out emoji64.png")

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Names and descriptions, or the facts of one data set."""
        from arzoo import registry

        if self.action == "ls":
            return {name: registry.describe("dataset", name) for name in registry.names("dataset")}
        if not self.name:
            raise ArzooError(f"which one? arzoo data show NAME, with a folder or one of: {_names()}")
        return _facts(self.name, self.out)

    def show(self, document: dict[str, Any]) -> None:
        """A table."""
        document = {k: f"{len(v)}: {', '.join(v)}" if isinstance(v, dict) else v for k, v in document.items()}
        print(table(document.items()))


def _names() -> str:
    from arzoo import registry

    return ", ".join(registry.names("dataset"))


def _facts(name: str, out: str | None) -> dict[str, Any]:
    import torch

    from arzoo.data import load

    data = load(name)
    counts = torch.bincount(data.labels, minlength=len(data.classes)).tolist()
    facts = {
        "name": data.name,
        "pictures": len(data),
        "size": list(data.size),
        "train": len(data.split("train")),
        "validation": len(data.split("validation")),
        "captions": data.captions is not None,
        "sha256": data.sha256,
        "classes": dict(zip(data.classes, counts, strict=True)),
    }
    if data.report:
        facts["skipped"] = list(data.report)
    if out:
        from arzoo.data.transforms import composite
        from arzoo.viz.grid import contact_sheet

        first = {int(label): row for row, label in reversed(list(enumerate(data.labels)))}
        rows = torch.tensor([first[label] for label in sorted(first)][:256])
        contact_sheet(composite(data.pixels(rows)), columns=16).save(out)
        facts["sheet"] = out
    return facts
