"""Arrays in files of volumes: HDF5, NIfTI, TIFF and Zarr.

Each format is a context manager that opens a file, finds the array and gives it as an `OpenArray`, of which any part
can be read. Files may come from anywhere, so nothing is unpickled, and what would read other files is refused: links
and virtual datasets of HDF5, OME-TIFF sets of several files. Voxel sizes are what the file says, in nanometers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np

from arzoo.base.errors import ArzooError, UnknownName, UsageError, require, some
from arzoo.core.volumes import in_words
from arzoo.data.tiff_pages import UnpackedPages, unpacks
from arzoo.data.volume_arrays import NANOMETERS, OpenArray, as_volume, choose

_CODECS = frozenset(
    "adler32 astype bitround blosc bytes bz2 crc32 crc32c delta fixedscaleoffset fletcher32 gzip jenkins_lookup3 lz4 "
    "lzma packbits pcodec quantize sharding_indexed shuffle transpose zfpy zlib zstd".split()
)
"""Codecs of Zarr that are read: they give numbers. Others may run code that a file brings."""


def opened(path: Path, dataset: str) -> AbstractContextManager[OpenArray]:
    """Open a volume; the file is closed when the context ends.

    Args:
        path: File, or folder of a Zarr.
        dataset: Path of the array in the file; empty for the only one of three dimensions, or else `main`.

    Raises:
        UsageError: Nothing reads files of this name.
        UnknownName: There is no such array.
        ArzooError: There is no such file, it is damaged, or holds something else.
        MissingPackage: The extra `em` is not installed.
    """
    if not path.exists():
        raise ArzooError(f"there is no file {path}")
    if path.is_dir():
        return _explained(path, _zarr, dataset)
    reader = READERS[suffix_of(path)]
    if reader is _zarr:
        raise ArzooError(f"{path} is a file; a Zarr is a folder. Unpack it if it is an archive.")
    return _explained(path, reader, dataset)


def suffix_of(path: Path) -> str:
    """Return the suffix that says which format a file has.

    Raises:
        UsageError: None of them does.
    """
    for suffix in READERS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise UsageError(
        f"{path}: volumes are files that end in {', '.join(READERS)}. Convert it to one of these formats."
    )


@contextmanager
def _explained(path: Path, reader: Reader, dataset: str) -> Iterator[OpenArray]:
    try:
        with reader(path, dataset) as array:
            yield array
    except (ArzooError, MemoryError):
        raise
    except Exception as error:  # the errors of the libraries share no base class
        raise ArzooError(
            f"cannot read {path}: {error or type(error).__name__}. If the file is not complete, copy it again."
        ) from error


@contextmanager
def _hdf5(path: Path, dataset: str) -> Iterator[OpenArray]:
    h5py = require("h5py", "em")
    with h5py.File(path, "r") as file:
        shapes: dict[str, tuple[int, ...]] = {}
        if not dataset:

            def look(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    shapes[name] = item.shape or ()

            file.visititems(look)  # does not follow links
            dataset = choose(path, shapes)
        found = _member(h5py, file, path, dataset)
        yield as_volume(path, dataset, found, found.chunks, _of_attributes(found.attrs))


def _member(h5py: Any, file: Any, path: Path, dataset: str) -> Any:
    """Return a dataset of an HDF5 file; links and data that lie in other files are refused."""
    names = [name for name in dataset.split("/") if name]
    for depth in range(1, len(names) + 1):
        place = "/".join(names[:depth])
        link = file.get(place, getlink=True)
        if link is None:
            parent = file["/".join(names[: depth - 1]) or "/"]
            options = list(parent) if isinstance(parent, h5py.Group) else []
            raise UnknownName("dataset", dataset, options, f"({path})")
        if not isinstance(link, h5py.HardLink):
            target = f"{getattr(link, 'filename', '')} {link.path}".strip()
            raise ArzooError(
                f"{path}: {place!r} is a link to {target}. Links are not followed, as they may read any file; name "
                "the dataset itself and its file."
            )
    found = file["/".join(names) or "/"]
    if not isinstance(found, h5py.Dataset):
        raise ArzooError(f"{path}: {dataset!r} is a group that holds {some(sorted(found))}; name a dataset")
    if found.is_virtual or found.external:
        raise ArzooError(
            f"{path}: {dataset!r} only refers to data elsewhere (virtual or external), which may be any file. Copy it "
            "into a plain dataset."
        )
    return found


@contextmanager
def _nifti(path: Path, dataset: str) -> Iterator[OpenArray]:
    _no_datasets(path, dataset)
    nibabel = require("nibabel", "em")
    image = nibabel.load(path)
    said = image.dataobj
    unit = NANOMETERS.get(image.header.get_xyzt_units()[0])
    size = None if unit is None else [float(side) * unit for side in image.header.get_zooms()[::-1]]
    scaled = (said.slope, said.inter) != (1, 0) and said.dtype.kind in "iuf"
    # A compressed file that stays open is decompressed once if it is read in order; nibabel alone would open it anew.
    with nibabel.openers.ImageOpener(path) as stream:
        spec = said.shape, said.dtype, said.offset, said.slope, said.inter
        proxy = nibabel.arrayproxy.ArrayProxy(stream, spec)

        class Reversed:
            """The axes are x, y, z in the file."""

            shape = proxy.shape[::-1]
            dtype = np.dtype(np.float64) if scaled else proxy.dtype

            def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
                return cast("np.ndarray", proxy[index[::-1]].transpose())

        yield as_volume(path, "", Reversed(), None, size)


@contextmanager
def _tiff(path: Path, dataset: str) -> Iterator[OpenArray]:
    _no_datasets(path, dataset)
    tifffile, zarr = require("tifffile", "em"), require("zarr", "em")
    # Without `_multifile`, the series of an OME-TIFF that names other files is not read as one.
    with _complaints() as complaints, tifffile.TiffFile(path, _multifile=False) as tiff:
        series = tiff.series[0]
        if complaints:
            raise ArzooError(f"{path} is damaged or not complete: {complaints[0]}. Copy it again.")
        if series.is_multifile or (tiff.is_ome and series.kind != "ome"):
            raise ArzooError(f"{path} is one of a set of files (OME). Save the volume in one file.")
        if len(tiff.series) > 1:
            shapes = some([in_words(each.shape) for each in tiff.series])
            raise ArzooError(f"{path} holds pictures of several shapes: {shapes}. Keep those of the volume.")
        axes = series.axes
        # Slices that tifffile wrote for ImageJ are called channels unless somebody named the axes.
        few = "C" in axes and series.shape[axes.index("C")] <= 4
        if "S" in axes or few or not axes.endswith("YX"):
            raise ArzooError(
                f"{path} has the shape {in_words(series.shape)} (axes {axes}): colors or channels. Save one channel."
            )
        if series.keyframe.photometric.name == "MINISWHITE":
            raise ArzooError(f"{path} stores white as 0 (MinIsWhite). Save it with black as 0.")
        size = _of_tiff(tiff)
        leading = (None,) * (3 - len(axes))  # a file of one picture
        if series.dataoffset is not None:
            dtype = series.dtype.newbyteorder(tiff.byteorder)
            plain = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
            yield as_volume(path, "", plain[leading], None, size)
            return
        if not unpacks(series.keyframe):
            yield as_volume(path, "", _stack(UnpackedPages(path, series), leading), None, size)
            return
        with tiff.aszarr(series=0, level=0) as store:
            pages = zarr.open_array(store, mode="r")
            chunks = (1,) * len(leading) + pages.chunks
            yield as_volume(path, "", _stack(pages, leading), chunks, size)


def _stack(pages: Any, leading: tuple[None, ...]) -> Any:
    """Return pages as an array of three axes or more; a single page has no axis of slices."""

    class Stack:
        """What a volume reads its slices from."""

        shape = (1,) * len(leading) + pages.shape
        dtype = pages.dtype

        def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
            return cast("np.ndarray", pages[index[len(leading) :]][leading])

    return Stack()


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile only logs, such as a file that ends early, of which it gives the pages that are left."""
    found: list[str] = []

    class Collect(logging.Handler):
        """Keeps messages."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                found.append(record.getMessage())

    log, handler = logging.getLogger("tifffile"), Collect()
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


def _of_tiff(tiff: Any) -> Sequence[float] | None:
    """Return the voxel size that a TIFF file says in OME-XML, or as ImageJ and arzoo do; plain TIFF has no z."""
    if tiff.ome_metadata:
        (pixels, *_) = (
            e for e in ElementTree.fromstring(tiff.ome_metadata).iter() if e.tag.endswith("Pixels")
        )
        sides = [(pixels.get(f"PhysicalSize{x}", 0), pixels.get(f"PhysicalSize{x}Unit", "µm")) for x in "ZYX"]
        return [float(side) * NANOMETERS.get(unit.lower(), 0) for side, unit in sides]
    said = tiff.imagej_metadata or (tiff.shaped_metadata or [{}])[0]
    unit = NANOMETERS.get(str(said.get("unit", "")).lower())
    tags = tiff.pages.first.tags
    if unit is None or not {"XResolution", "YResolution"} <= {tag.name for tag in tags}:
        return None
    (y, per_y), (x, per_x) = tags["YResolution"].value, tags["XResolution"].value
    if not (y and x):
        return None
    # ImageJ leaves a spacing of 1 out. It counts pixels per unit, whatever the unit of the tag is.
    return [float(said.get("spacing", 1)) * unit, per_y / y * unit, per_x / x * unit]


@contextmanager
def _zarr(path: Path, dataset: str) -> Iterator[OpenArray]:
    zarr = require("zarr", "em")
    try:
        root = zarr.open(path, mode="r")
    except FileNotFoundError as error:
        raise ArzooError(
            f"the folder {path} is no Zarr. Volumes are files of one of {', '.join(READERS)}."
        ) from error
    node, size = root, None
    if dataset:
        if isinstance(root, zarr.Array):
            raise ArzooError(f"{path} is one array and has no dataset {dataset!r}. Leave the dataset out.")
        if dataset not in root:
            raise UnknownName("dataset", dataset, list(_zarr_arrays(zarr, root)), f"({path})")
        node = root[dataset]
    if isinstance(node, zarr.Group):
        level, size = _of_multiscales(path, node.attrs.asdict())
        level = level or choose(path, {k: a.shape for k, a in _zarr_arrays(zarr, node).items()})
        node = node[level]
    if not isinstance(node, zarr.Array):
        raise ArzooError(f"{path}: {dataset!r} is no array")
    unread = sorted(_codecs(node.metadata.to_dict()) - _CODECS)
    if unread:
        raise ArzooError(f"{path}: its numbers are packed by {some(unread)}, which is not read. Convert it.")
    size = size or _of_attributes(node.attrs.asdict())
    yield as_volume(path, node.path, node, node.shards or node.chunks, size)


def _zarr_arrays(zarr: Any, group: Any) -> dict[str, Any]:
    return {name: node for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


def _codecs(metadata: Any) -> set[str]:
    """Return the names of all codecs in the metadata of an array, of Zarr 2 or 3."""
    if metadata["zarr_format"] == 2:
        filters = [metadata.get("compressor"), *(metadata.get("filters") or ())]
        return {str(filter["id"]).lower() for filter in filters if filter}
    names, queue = set(), list(metadata["codecs"])
    for codec in queue:
        names.add(str(codec["name"]).lower().removeprefix("numcodecs."))
        inner = codec.get("configuration") or {}
        queue += [*inner.get("codecs", ()), *inner.get("index_codecs", ())]
    return names


def _of_multiscales(path: Path, attributes: Mapping[str, Any]) -> tuple[str, Sequence[float] | None]:
    """Return the path of level 0 of an OME-Zarr and its voxel size; an empty path if a group is none."""
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        return "", None
    level = scales[0]["datasets"][0]
    axes = [{"name": axis} if isinstance(axis, str) else axis for axis in scales[0].get("axes", ())]
    names = [str(axis["name"]).lower() for axis in axes]
    if axes and names[-3:] != ["z", "y", "x"]:
        raise ArzooError(f"{path} has the axes {', '.join(names)}; the last three must be z, y and x")
    units = [NANOMETERS.get(str(axis.get("unit")).lower()) for axis in axes[-3:]]
    steps = (*level.get("coordinateTransformations", ()), *scales[0].get("coordinateTransformations", ()))
    scaling = [step["scale"][-3:] for step in steps if step.get("type") == "scale"]
    if not axes or not scaling or None in units:
        return level["path"], None
    return level["path"], [math.prod(factors) for factors in zip(units, *scaling, strict=True)]


def _of_attributes(attributes: Mapping[str, Any]) -> Sequence[float] | None:
    """Return the voxel size as CREMI (`resolution`, nm) and ilastik (`element_size_um`) write it, slices first."""
    for name, unit in (("resolution", 1.0), ("element_size_um", 1e3)):
        if name in attributes:
            return [float(side) * unit for side in attributes[name]]
    return None


def _no_datasets(path: Path, dataset: str) -> None:
    if dataset:
        raise UsageError(f"{path} holds one volume and has no dataset {dataset!r}. Leave the dataset out.")


Reader = Callable[[Path, str], AbstractContextManager[OpenArray]]
READERS: dict[str, Reader] = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), _hdf5),
    **dict.fromkeys((".nii", ".nii.gz"), _nifti),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    ".zarr": _zarr,
}
"""The reader of every suffix."""
