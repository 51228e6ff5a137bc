"""`arzoo data`: list and describe data sets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import table
from arzoo.base.errors import UsageError
from arzoo.base.files import atomic_file, refuse_existing
from arzoo.base.paths import expanded
from arzoo.cli.volumes import is_volume, readable, volume_document

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.core.sizes import Sizes
    from arzoo.data.augmentation import Augment
    from arzoo.data.base import ImageSet
    from arzoo.data.views import Views

COLUMNS = 10
"""Pictures per row of a sheet."""
VARIATIONS = 7
"""Variations of a picture in training that a sheet shows beside it."""
OWN, KEPT = "own_tokenizer", "anyres_emoji64"
"""Recipes whose variations the sheet of a folder shows, cropped and with --sizes keep."""
PLAYED = 8
"""Frames per second of a GIF of clips whose rate is not given."""


@dataclass(kw_only=True)
class Data:
    """List data sets, or describe one, or a volume of voxels.

    A sheet of pictures has the first picture of each class. That of a folder is what a model will see: a row for each
    of them, cropped, with variations of it in training. A sheet of clips has a row for the first clip of each, and a
    column per frame; a GIF beside it plays them. That of a volume has slices in its middle, and if there are labels,
    the boundaries between objects, and these in color.
    """

    action: tyro.conf.Positional[Literal["ls", "show"]] = "ls"
    """`ls` lists the built-in data sets, `show` describes one."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")] = ""
    """For `show`: a data set, a folder of pictures or clips with one sub-folder per class, or a volume: em_synthetic,
    or a file of HDF5, NIfTI, TIFF or Zarr; labels of NAME_inputs.h5 are in NAME_labels.h5 beside it."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """File to which `show` writes a sheet."""
    split: Literal["all", "train", "validation"] = "all"
    """The pictures that `show` counts and draws."""
    num: int = 256
    """Largest number of pictures or clips on the sheet."""
    size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Side in pixels in which the pictures of a folder are read; by default as own_tokenizer chooses it."""
    sizes: Literal["square", "keep"] = "square"
    """Whether pictures are cropped to squares of one size, or keep their shapes: those of a folder are resized to sizes
    that the recipe's tokenizer takes, and drawings lose their transparent margins."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="RECIPE")] = None
    """The recipe whose variations of pictures the sheet shows; own_tokenizer for folders (with --sizes keep
    anyres_emoji64), none for other data."""
    frames: int | None = None
    """Frames of a clip, 1 for pictures. By default what the data has; a folder of videos has clips of 17."""
    fps: float | None = None
    """For folders of clips: frames per second to which files are resampled; by default every frame is taken."""
    stride: int | None = None
    """For folders of clips: frames from clip to clip of one file; by default clips follow each other."""
    dataset: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """For volumes of HDF5 and Zarr: path of the voxels; by default the only array of three axes, or main."""
    labels: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """For volumes of HDF5 and Zarr: path of the numbers of the objects, if they are in the same file."""
    overwrite: bool = False
    """Replace the sheet if it exists."""
    dry_run: bool = False
    """Draw the sheet and show its size; write nothing."""

    examples: ClassVar = (
        "arzoo data ls",
        "arzoo data show emoji64 --out emoji64.png",
        "arzoo data show my_pictures/ --out seen.png",
        "arzoo data show my_pictures/ --sizes keep --out kept.png",
        "arzoo data show my_clips/ --frames 17 --fps 8 --out clips.png",
        "arzoo data show em_synthetic --out slices.png",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Return names and descriptions, or the facts of one data set."""
        from arzoo.base import registry

        if self.action == "ls":
            return registry.summaries("dataset") | {
                "em_synthetic": "A volume of synthetic electron microscopy."
            }
        if not self.name:
            raise UsageError(
                f"which one? arzoo data show NAME, with a folder, a volume or one of: {_names()}"
            )
        if self.num < 1:
            raise UsageError(f"a sheet of {self.num} pictures is empty; give --num at least 1")
        if self.out:
            refuse_existing(Path(self.out), self.overwrite)
        if is_volume(self.name):
            return volume_document(self)
        if self.dataset or self.labels:
            raise UsageError(f"--dataset and --labels are of volumes, and {self.name} is none")
        data, facts = self._described()
        if not self.out:
            return facts
        sheet, clips = Path(expanded(self.out)), data.frames > 1
        paths = [sheet, sheet.with_suffix(".gif")] if clips else [sheet]
        if clips and sheet.suffix == ".gif":
            raise UsageError(
                f"{self.out}: --out names the sheet, such as sheet.png; the GIF is written beside it"
            )
        for path in paths:
            refuse_existing(path, self.overwrite)
        images, captions = self._chosen(data)
        contents = _drawn(images, captions, data.fps, self._columns)
        if self.dry_run:
            return self._estimate(paths, contents, data, len(images))
        for path, content in zip(paths, contents, strict=True):
            with atomic_file(path, self.overwrite) as partial:
                partial.write_bytes(content)
        return facts | dict(zip(("sheet", "animation"), map(str, paths), strict=False))

    def _described(self) -> tuple[ImageSet, dict[str, Any]]:
        """Pictures of a split, and facts about them."""
        import torch

        from arzoo.data import load

        full = load(self.name, self._side(), self.frames, self.fps, self.stride, self._allowed())
        data = full if self.split == "all" else full.split(self.split)
        counts = torch.bincount(data.labels, minlength=len(data.classes)).tolist()
        facts: dict[str, Any] = {
            "name": data.name,
            **({"clips": len(data), "frames": data.frames} if data.frames > 1 else {"pictures": len(data)}),
            "size": data.resolution if self.sizes == "keep" else list(data.size),
            "split": self.split,
            "train": int((~full.held_out).sum()),
            "validation": int(full.held_out.sum()),
            "captions": data.captions is not None,
            "sha256": full.sha256,
            "classes": dict(zip(data.classes, counts, strict=True)),
        }
        if data.fps:
            facts["fps"] = round(data.fps, 3)
        if self.sizes == "keep":
            facts["allowed"] = str(self._allowed())
            facts["cropped"] = data.cropping or "no, resized to the nearest allowed size"
        elif data.sides:
            facts["cropped"] = data.cropping or "no, all are square"
        if (policy := self._policy) and data.frames == 1:
            facts["variations"] = f"{policy} ({self._recipe})"
        if data.report:
            facts["remarks"] = list(data.report)
        return data, facts

    @cached_property
    def _own(self) -> Path | None:
        """The folder of pictures that the data are; None for other data."""
        from arzoo.data.folder_sizes import own_pictures

        of_clips = self.frames not in (None, 1) or self.fps is not None or self.stride is not None
        return None if of_clips else own_pictures(self.name)

    def _side(self) -> int | None:
        """Return the side in which pictures are read; None for the one that the data have."""
        from arzoo.data.folder_sizes import fitting_side, folder_sizes

        if self.size is None and self._own:
            return fitting_side(*folder_sizes(self._own))
        return self.size

    def _allowed(self) -> Sizes | None:
        """Return the sizes that pictures may keep; None if all are cropped to one.

        Raises:
            UsageError: They have a side, or the recipe's tokenizer takes one size only.
        """
        if self.sizes == "square":
            return None
        if self.size is not None:
            raise UsageError(
                f"--size {self.size} is the side of squares, and --sizes keep crops none: leave one out"
            )
        from arzoo.train.recipe import load_recipe
        from arzoo.train.sizing import allowed_sizes

        return allowed_sizes(load_recipe(self.recipe or KEPT))

    @property
    def _recipe(self) -> str:
        """Name of the recipe whose variations the sheet shows; empty for a sheet without any."""
        usual = KEPT if self.sizes == "keep" else OWN
        return self.recipe or (usual if self._own else "")

    @cached_property
    def _policy(self) -> Augment | None:
        """Return the settings of the variations on the sheet; None for a sheet without any."""
        from arzoo.train.recipe import load_recipe

        return load_recipe(self._recipe).augment if self._recipe else None

    @property
    def _columns(self) -> int:
        """Pictures in a row of the sheet."""
        return COLUMNS if self._policy is None else 1 + VARIATIONS

    def _chosen(self, data: ImageSet) -> tuple[Tensor, list[str]]:
        """Return the pictures of the sheet, (n, H, W, 3) uint8, or clips, (n, T, H, W, 3), and their captions."""
        from arzoo.data.transforms import composite
        from arzoo.data.views import Views
        from arzoo.viz.grid import framed

        policy = self._policy
        varied = policy is not None and data.frames == 1
        rows = _firsts(data, max(self.num // self._columns, 1) if varied else self.num)
        some, names = data.select(rows), [data.classes[label] for label in data.labels[rows]]
        if data.frames > 1:
            return composite(some.pixels(slice(None))), names
        views = Views("augment", VARIATIONS, policy) if policy else Views()
        of_view = [_view(some, views, view) for view in range(views.count)]
        captions = [text for name in names for text in (name, *[""] * (views.count - 1))]
        return framed([picture for views in zip(*of_view, strict=True) for picture in views]), captions

    def _estimate(
        self, paths: list[Path], contents: list[bytes], data: ImageSet, drawn: int
    ) -> dict[str, Any]:
        """Return the estimate of a dry run; the sheet was drawn in memory."""
        from PIL import Image

        from arzoo.base import estimate

        names = [path.name for path in paths]
        counts: dict[str, Any] = {"clips" if data.frames > 1 else "pictures": len(data)}
        with Image.open(io.BytesIO(contents[0])) as sheet:
            size = f"{sheet.width} x {sheet.height} pixels"
        return estimate.document(
            {"name": self.name, "split": self.split, "num": self.num}, str(paths[0].parent), names, record=False,
            sizes=dict(zip(names, map(len, contents), strict=True)), sheet=size,
            **counts, on_the_sheet=drawn,
        )  # fmt: skip

    def show(self, document: dict[str, Any]) -> None:
        """Print a table."""
        if "voxel_size" in document:
            document = readable(document)
        document = {k: f"{len(v)}: {', '.join(v)}" if isinstance(v, dict) else v for k, v in document.items()}
        print(table(document.items()))


def _names() -> str:
    from arzoo.base import registry

    return ", ".join(registry.names("dataset"))


def _view(data: ImageSet, views: Views, view: int) -> list[Tensor]:
    """Return all pictures in a view, (H, W, 3) uint8 each."""
    import torch

    from arzoo.data.transforms import to_uint8
    from arzoo.data.views import BLOCK

    pictures = [torch.zeros(0)] * len(data)
    for first in range(0, len(data), BLOCK):
        for places, x in views.parts(data, view, first):
            for place, picture in zip(places.tolist(), to_uint8(x), strict=True):
                pictures[first + place] = picture
    return pictures


def _drawn(images: Tensor, captions: Sequence[str], fps: float | None, columns: int) -> list[bytes]:
    """Draw the sheet of pictures (n, H, W, 3) as PNG, or that of clips (n, T, H, W, 3) and a GIF at their speed."""
    import tempfile

    from arzoo.viz.clips import FORMATS, clip_sheet, tiled, write_clip
    from arzoo.viz.grid import contact_sheet

    file, clips = io.BytesIO(), images.dim() == 5
    sheet = (
        clip_sheet(images, captions=captions)
        if clips
        else contact_sheet(images, columns=columns, captions=captions)
    )
    sheet.save(file, "PNG")
    if not clips:
        return [file.getvalue()]
    with tempfile.TemporaryDirectory() as folder:
        animation = Path(folder) / "clips.gif"
        write_clip(animation, tiled(images), min(fps or PLAYED, FORMATS["gif"].fastest))
        return [file.getvalue(), animation.read_bytes()]


def _firsts(data: ImageSet, num: int) -> Tensor:
    """Rows (n,) of the first picture of each of the first `num` classes."""
    import torch

    first = {int(label): row for row, label in reversed(list(enumerate(data.labels)))}
    return torch.tensor([first[label] for label in sorted(first)][:num], dtype=torch.long)
