"""`arzoo data`: list and describe data sets."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import table
from arzoo.base.errors import UsageError
from arzoo.base.files import refuse_existing

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.data.base import ImageSet

COLUMNS = 16
"""Pictures per row of a sheet."""


@dataclass(kw_only=True)
class Data:
    """List data sets, or describe one."""

    action: tyro.conf.Positional[Literal["ls", "show"]] = "ls"
    """`ls` lists the built-in data sets, `show` describes one."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")] = ""
    """For `show`: a data set, or a folder of pictures with one sub-folder per class."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """File to which `show` writes a sheet with the first picture of each class."""
    split: Literal["all", "train", "validation"] = "all"
    """The pictures that `show` counts and draws."""
    num: int = 256
    """Largest number of pictures on the sheet."""
    overwrite: bool = False
    """Replace the sheet if it exists."""
    dry_run: bool = False
    """Draw the sheet and show its size; write nothing."""

    examples: ClassVar = ("arzoo data ls", "arzoo data show emoji64 --out emoji64.png")

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Return names and descriptions, or the facts of one data set."""
        from arzoo.base import registry

        if self.action == "ls":
            return {name: registry.describe("dataset", name) for name in registry.names("dataset")}
        if not self.name:
            raise UsageError(f"which one? arzoo data show NAME, with a folder or one of: {_names()}")
        if self.num < 1:
            raise UsageError(f"a sheet of {self.num} pictures is empty; give --num at least 1")
        if self.out:
            refuse_existing(Path(self.out), self.overwrite)
        data, facts = _described(self.name, self.split)
        if not self.out:
            return facts
        from arzoo.viz.grid import save_grid

        pictures = _firsts(data, self.num)
        if self.dry_run:
            return self._estimate(self.out, pictures, len(data))
        return facts | {
            "sheet": str(save_grid(pictures, self.out, columns=COLUMNS, overwrite=self.overwrite))
        }

    def _estimate(self, out: str, pictures: Tensor, total: int) -> dict[str, Any]:
        """Return the estimate of a dry run; the sheet is drawn in memory."""
        from arzoo.base import estimate
        from arzoo.viz.grid import contact_sheet

        file, sheet, path = io.BytesIO(), contact_sheet(pictures, columns=COLUMNS), Path(out)
        sheet.save(file, "PNG")
        return estimate.document(
            {"name": self.name, "split": self.split, "num": self.num}, str(path.parent), [path.name], record=False,
            sizes={path.name: len(file.getvalue())}, pictures=total, on_the_sheet=len(pictures),
            sheet=f"{sheet.width} x {sheet.height} pixels",
        )  # fmt: skip

    def show(self, document: dict[str, Any]) -> None:
        """Print a table."""
        document = {k: f"{len(v)}: {', '.join(v)}" if isinstance(v, dict) else v for k, v in document.items()}
        print(table(document.items()))


def _names() -> str:
    from arzoo.base import registry

    return ", ".join(registry.names("dataset"))


def _described(name: str, split: str) -> tuple[ImageSet, dict[str, Any]]:
    """Pictures of a split, and facts about them."""
    import torch

    from arzoo.data import load

    full = load(name)
    data = full if split == "all" else full.split(split)
    counts = torch.bincount(data.labels, minlength=len(data.classes)).tolist()
    facts = {
        "name": data.name,
        "pictures": len(data),
        "size": list(data.size),
        "split": split,
        "train": int((~full.held_out).sum()),
        "validation": int(full.held_out.sum()),
        "captions": data.captions is not None,
        "sha256": full.sha256,
        "classes": dict(zip(data.classes, counts, strict=True)),
    }
    if data.report:
        facts["remarks"] = list(data.report)
    return data, facts


def _firsts(data: ImageSet, num: int) -> Tensor:
    """The first picture of each of the first `num` classes: (n, H, W, 3) uint8."""
    import torch

    from arzoo.data.transforms import composite

    first = {int(label): row for row, label in reversed(list(enumerate(data.labels)))}
    rows = torch.tensor([first[label] for label in sorted(first)][:num], dtype=torch.long)
    return composite(data.pixels(rows))
