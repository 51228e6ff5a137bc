"""What `arzoo data show` says of a volume, and the picture of its slices."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.files import atomic_file
from arzoo.cli.options import refuse_others

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from arzoo.cli.data import Data
    from arzoo.data.volume import VoxelSource

OF_VOLUMES = frozenset({"action", "name", "out", "dataset", "labels", "overwrite", "dry_run"})
"""Options that mean something for volumes."""
SIDE = 512
"""Most pixels along y and x of a slice on a sheet; of larger ones the middle is shown."""


def is_volume(name: str) -> bool:
    """Return whether data are a volume by their name."""
    from arzoo.data.volume_sets import SUFFIXES, SYNTHETIC

    return name == SYNTHETIC or name.lower().rstrip("/").endswith(SUFFIXES)


def volume_document(verb: Data) -> dict[str, Any]:
    """Return facts about a volume, and write a sheet of its slices if one is asked for.

    Raises:
        UsageError: An option is one of pictures.
        ArzooError: The volume or its labels cannot be read.
    """
    refuse_others(
        verb, OF_VOLUMES, "of pictures, not of volumes, which have --out, --dataset, --labels and --overwrite"
    )
    from arzoo.base import estimate
    from arzoo.data.volume_sets import labelled

    source, labels = labelled(verb.name, verb.dataset, verb.labels)
    facts: dict[str, Any] = {
        "name": source.name,
        "sides": list(source.sides),
        "voxel_size": None if source.voxel_size is None else list(source.voxel_size),
        **_counted(labels),
    }
    if not verb.out:
        return facts
    file, path = io.BytesIO(), Path(verb.out)
    sheet = _sheet(source, labels)
    sheet.save(file, "PNG")
    content = file.getvalue()
    if verb.dry_run:
        return estimate.document(
            {"name": verb.name}, str(path.parent), [path.name], record=False, sizes={path.name: len(content)},
            sheet=f"{sheet.width} x {sheet.height} pixels",
        )  # fmt: skip
    with atomic_file(path, verb.overwrite) as partial:
        partial.write_bytes(content)
    return facts | {"sheet": str(path)}


def readable(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts about a volume with sides and units as texts."""
    from arzoo.core.volumes import in_words

    size, objects = facts["voxel_size"], facts["objects"]
    texts = {
        "voxels": f"{in_words(facts['sides'])} (z, y, x)",
        "voxel size": "unknown" if size is None else f"{in_words(size)} nm",
        "objects": "unknown, there are no labels" if objects is None else objects,
    }
    if objects is not None:
        texts["of no object"] = f"{facts['without_object']:.1%} of the voxels"
    return {"name": facts["name"], **texts, **({"sheet": facts["sheet"]} if "sheet" in facts else {})}


def _counted(labels: Tensor | None) -> dict[str, Any]:
    """Count the objects of labels (Z, Y, X), and the share of voxels that are of none."""
    if labels is None:
        return {"objects": None}
    numbers, counts = labels.unique(return_counts=True)
    of_none = int(counts[numbers == 0].sum())
    return {"objects": int((numbers > 0).sum()), "without_object": round(of_none / labels.numel(), 4)}


def _sheet(source: VoxelSource, labels: Tensor | None) -> Image.Image:
    """Show slices in the middle of a volume, with the boundaries between labels, and these in color."""
    from arzoo.models.tokenunify.affinities import NEAREST, affinities
    from arzoo.viz.volumes import middle, slice_sheet

    depth, *others = source.sides
    rows = middle(depth)
    y, x = (
        slice(max((side - SIDE) // 2, 0), max((side - SIDE) // 2, 0) + min(side, SIDE)) for side in others
    )
    shown = source.read((rows.start, y.start, x.start), (len(rows), y.stop - y.start, x.stop - x.start))
    if labels is None:
        return slice_sheet(shown, first=rows.start)
    cells = labels[rows.start : rows.stop, y, x]
    # Sheets show neighbors along y and x alone. In place of the one along z, which may not exist, is the voxel itself.
    inside = affinities(cells[None], ((0, 0, 0), *NEAREST[1:]))[0]
    return slice_sheet(shown, inside, {"objects": cells}, first=rows.start)
