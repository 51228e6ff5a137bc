"""`arzoo segment`: find the cells of a volume."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from arzoo.base.console import note, progress
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.files import atomic_file, refuse_existing, write_text
from arzoo.cli.options import refuse_below

if TYPE_CHECKING:
    from arzoo.data.volume import VoxelSource
    from arzoo.segmentation.segmenter import Segmenter

BYTES = 60
"""Memory per voxel: affinities, fragments, segments, and the lists of what touches what."""


@dataclass(kw_only=True)
class Segment:
    """Find the cells of a volume of electron microscopy.

    A network predicts in overlapping windows which neighboring voxels are of one cell; fragments of slices are put
    together where it says so. Beside the file of segments lie a picture of some slices, and a record.
    """

    volume: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="VOLUME")]
    """An HDF5, NIfTI, TIFF or Zarr file of voxels, or em_synthetic."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="CHECKPOINT")] = "segmamba_em"
    """A segmenter (see `arzoo models`), or the folder of a checkpoint or training run."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "out/segments.h5"
    """File of the numbers of the segments, int64; its ending says the format."""
    dataset: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """For HDF5 and Zarr: path of the array in the file; by default the only one with three axes, or `main`."""
    voxel_size: Annotated[tuple[float, float, float] | None, tyro.conf.arg(metavar="Z Y X")] = None
    """Sides of a voxel in nanometers, if the file does not say them, or wrongly."""
    method: Annotated[str, tyro.conf.arg(metavar="METHOD")] = "mean_affinity"
    """How fragments are put together, see `arzoo models --kind agglomeration`."""
    threshold: float = 0.5
    """Affinity from which fragments are put together; small ones merge more."""
    overlap: float = 0.25
    """Share of a window's side by which neighboring windows overlap."""
    batch: int = 1
    """Windows per batch."""
    threads: int = 0
    """CPU threads; 0 leaves the number as it is."""
    overwrite: bool = False
    """Replace the files if they exist."""
    dry_run: bool = False
    """Show sizes, memory, expected time and files; predicts some windows and writes nothing."""

    examples: ClassVar = (
        "arzoo segment em_synthetic --out out/cells.h5",
        "arzoo segment raw.h5 --dataset volumes/raw --checkpoint runs/segmamba_em --out segments.h5",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Segment, write the file, its picture and its record."""
        refuse_below(self, batch=1)
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold is an affinity from 0 to 1, got {self.threshold:g}")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"--overlap is a share from 0 to below 1, got {self.overlap:g}")
        from arzoo.base import registry, runtime
        from arzoo.base.memory import refuse_too_large
        from arzoo.data.volume_files import write_volume
        from arzoo.data.volume_formats import suffix_of
        from arzoo.data.volume_sets import open_source
        from arzoo.segmentation.segmenter import Segmenter
        from arzoo.segmentation.segments import segments
        from arzoo.viz.volumes import middle, slice_sheet

        out = Path(self.out)
        picture, record = (
            out.with_name(out.name[: -len(suffix_of(out))] + ending) for ending in (".png", ".json")
        )
        if out.exists() and not self.overwrite:  # a Zarr is a folder
            raise ArzooError(f"{out} exists. Give another name, or allow it with --overwrite.")
        for path in (picture, record):
            refuse_existing(path, self.overwrite)
        registry.lookup("agglomeration", self.method)
        runtime.set_threads(self.threads)
        segmenter = Segmenter.load(self.checkpoint)
        source = open_source(self.volume, self.dataset, self.voxel_size)
        z, y, x = source.sides
        refuse_too_large(
            BYTES * z * y * x,
            f"the affinities and segments of {z} x {y} x {x} voxels",
            "Segment it in parts.",
        )
        facts = {
            "volume": source.name, "sides": [z, y, x], "voxel_size": source.voxel_size, "checkpoint": self.checkpoint,
            "weights": segmenter.weights[:12], "window": list(segmenter.window), "overlap": self.overlap,
            "method": self.method, "threshold": self.threshold,
        }  # fmt: skip
        if self.dry_run:
            return self._estimate(segmenter, source, facts, [out, picture, record])
        with progress(f"predicting affinities of {source.name}", "windows") as report:
            affinities = segmenter.affinities(source, self.overlap, self.batch, report)
        note("putting fragments together")
        cells = segments(affinities, self.method, self.threshold)
        write_volume(out, cells, source.voxel_size, overwrite=self.overwrite)
        rows = middle(z)
        shown = source.read((rows.start, 0, 0), (len(rows), y, x))
        part = slice(rows.start, rows.stop)
        sheet = slice_sheet(shown, affinities[:, part], {"cells": cells[part]}, first=rows.start)
        with atomic_file(picture, self.overwrite) as partial:
            sheet.save(partial, format="PNG")
        facts |= {
            "segments": int(cells.max()),
            "file": str(out),
            "picture": str(picture),
            "record": str(record),
        }
        command = shlex.join(["arzoo", *arguments])
        write_text(
            record, json.dumps({"command": command, **facts, "versions": runtime.versions()}, indent=2) + "\n"
        )
        return facts

    def _estimate(
        self, segmenter: Segmenter, source: VoxelSource, facts: dict[str, Any], files: list[Path]
    ) -> dict[str, Any]:
        import math

        import torch

        from arzoo.base import estimate
        from arzoo.segmentation.windows import all_starts

        windows = math.prod(map(len, all_starts(source.sides, segmenter.window, self.overlap)))
        some = torch.zeros(1, 1, *segmenter.window)
        with torch.inference_mode():
            work = (segmenter.network(some) for _ in range(windows))
            seconds = estimate.expected_seconds(work, windows)
        memory = {
            "weights": estimate.tensor_bytes(segmenter.network),
            "volume": BYTES * math.prod(source.sides),
        }
        return estimate.document(
            facts, str(files[0].parent), [path.name for path in files], parameters=estimate.count(segmenter.network),
            seconds=seconds, memory=memory, record=False,
        )  # fmt: skip

    def show(self, document: dict[str, Any]) -> None:
        """Print the number of segments and the files."""
        sides = " x ".join(map(str, document["sides"]))
        print(f"{document['segments']} segments in {sides} voxels of {document['volume']}")
        print(f"segments: {document['file']}")
        print(f"slices, boundaries and cells: {document['picture']}")
