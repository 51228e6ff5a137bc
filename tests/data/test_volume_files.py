"""Volumes in files: what is read, what is refused, and writing."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import struct
import sys

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image

from arzoo.base.errors import ArzooError, MissingPackage, UnknownName, UsageError
from arzoo.data import volume_files
from arzoo.data.volume_files import open_volume, read_labels, write_volume

SUFFIXES = (".h5", ".hdf5", ".tif", ".nii", ".nii.gz", ".zarr")
SIZE = (35.0, 8.0, 4.03)
VOXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 24), dtype=np.uint8)


def whole(volume):
    return volume.read((0, 0, 0), volume.sides).numpy()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("slices", [6, 1])
def test_what_is_written_is_read(tmp_path, suffix, size, slices):
    path, voxels = tmp_path / f"volume{suffix}", torch.from_numpy(VOXELS[:slices])
    write_volume(path, voxels, size)
    volume = open_volume(path)
    assert (volume.sides, volume.voxel_size) == ((slices, 20, 24), size)
    assert torch.equal(volume.read((0, 0, 0), volume.sides), voxels)
    part = pickle.loads(pickle.dumps(volume)).read((slices - 1, 3, 5), (1, 10, 7))
    assert torch.equal(part, voxels[slices - 1 :, 3:13, 5:12])
    assert open_volume(path, voxel_size=(1.0, 2.0, 3.0)).voxel_size == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_are_exact(tmp_path, suffix):
    path, labels = tmp_path / f"labels{suffix}", torch.zeros(2, 5, 4, dtype=torch.int64)
    labels[1, 2, 3], labels[0, 1, 2] = 2**53 + 1, 2**63 - 1
    write_volume(path, labels, SIZE)
    assert torch.equal(read_labels(path), labels)
    assert open_volume(path).voxel_size == SIZE
    write_volume(path, torch.zeros_like(labels), overwrite=True)
    assert read_labels(path).dtype == torch.int64
    assert not read_labels(path).any()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_file_is_kept_unless_it_may_go(tmp_path, suffix):
    path, voxels = tmp_path / f"volume{suffix}", torch.from_numpy(VOXELS)
    write_volume(path, voxels)
    with pytest.raises(ArzooError, match="exists"):
        write_volume(path, voxels)
    write_volume(path, 255 - voxels, overwrite=True)
    assert torch.equal(open_volume(path).read((0, 0, 0), (6, 20, 24)), 255 - voxels)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_is_not_written(tmp_path, monkeypatch):
    voxels = torch.from_numpy(VOXELS)
    with pytest.raises(UsageError, match=r"\.h5, \.hdf5.*\.zarr"):
        write_volume(tmp_path / "a.png", voxels)
    with pytest.raises(UsageError, match="three lengths"):
        write_volume(tmp_path / "a.h5", voxels, (0.0, 8.0, 8.0))
    for wrong in (voxels.float(), voxels[0], voxels[:0], voxels.int()):
        with pytest.raises(ArzooError, match="uint8 or int64"):
            write_volume(tmp_path / "a.h5", wrong)
    with pytest.raises(ArzooError, match=r"at most 32767.*40000 x 1 x 2.*\.h5"):
        write_volume(tmp_path / "a.nii", torch.zeros(40000, 1, 2, dtype=torch.uint8))
    monkeypatch.setattr(volume_files, "_write_hdf5", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_volume(tmp_path / "a.h5", voxels)
    assert not list(tmp_path.iterdir())


def save(path, values):
    """Write values of any type, as other programs do."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["main"] = values
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    elif path.suffix == ".zarr":
        shutil.rmtree(path, ignore_errors=True)
        zarr.create_array(path, shape=values.shape, chunks=(2, 7, 7), dtype=values.dtype)[:] = values
    else:
        nibabel.save(nibabel.Nifti1Image(values.transpose(), None, dtype=values.dtype), path)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(volume_files, "_BLOCK", 300)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", [".h5", ".tif", ".nii", ".nii.gz", ".zarr"])
@pytest.mark.parametrize("dtype", ["u2", "i2", "f4", "f8", "i8"])
def test_other_numbers_are_scaled_by_the_whole_volume(tmp_path, suffix, dtype):
    values = (VOXELS.astype(np.float64) * 3 - 100).clip(0 if dtype == "u2" else -100).astype(dtype)
    volume = open_volume(save(tmp_path / f"a{suffix}", values))
    low, high = float(values.min()), float(values.max())
    expected = np.rint(255 * (values.astype(np.float64) - low) / (high - low + 1e-8)).astype(np.uint8)
    part = volume.read((2, 3, 4), (2, 5, 6)).numpy()
    assert (part == expected[2:4, 3:8, 4:10]).all()
    assert volume.extremes == (low, high)
    assert (whole(volume) == expected).all()


def test_the_range_is_looked_for_once_and_travels(tmp_path, monkeypatch):
    volume = open_volume(save(tmp_path / "a.h5", VOXELS.astype("i4")))
    monkeypatch.setattr(volume_files, "_blocks", lambda array: pytest.fail("no voxels may be read yet"))
    volume = open_volume(volume.path)
    monkeypatch.undo()
    volume.read((0, 0, 0), (1, 1, 1))
    monkeypatch.setattr(volume_files, "_blocks", lambda array: pytest.fail("the range is known"))
    pickle.loads(pickle.dumps(volume)).read((1, 0, 0), (1, 1, 1))
    volume = open_volume(save(tmp_path / "flat.h5", np.full((2, 3, 4), 7, "i4")))
    monkeypatch.undo()
    assert not whole(volume).any()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", [".h5", ".tif", ".nii.gz", ".zarr"])
def test_values_that_are_no_numbers_are_refused(tmp_path, suffix):
    values = VOXELS.astype("f4")
    values[3, 4, 20], values[3, 5, 1], values[5, 0, 0] = np.nan, np.inf, -np.inf
    volume = open_volume(save(tmp_path / f"a{suffix}", values))
    with pytest.raises(ArzooError, match=r"3 voxels are NaN or infinite.*\(3, 4, 20\).*Replace them first"):
        volume.read((0, 0, 0), (1, 1, 1))


def test_shapes_and_types(tmp_path):
    for shape in ((1, 6, 20, 24), (6, 20, 24, 1), (1, 1, 6, 20, 24)):
        for suffix in (".h5", ".nii"):
            assert (whole(open_volume(save(tmp_path / f"a{suffix}", VOXELS.reshape(shape)))) == VOXELS).all()
    for shape, said in (
        ((6, 20, 24, 1, 2), "6 x 20 x 24 x 1 x 2"),
        ((20, 24), "20 x 24"),
        ((6, 0, 24), "6 x 0 x 24"),
    ):
        with pytest.raises(ArzooError, match=f"no array of three dimensions, but main .{said}"):
            open_volume(save(tmp_path / "a.h5", np.zeros(shape, np.uint8)))
        with pytest.raises(ArzooError, match=f"main has the shape {said}"):
            open_volume(tmp_path / "a.h5", "main")
    for suffix in (".h5", ".zarr", ".nii", ".tif"):
        with pytest.raises(ArzooError, match="complex64 and the shape 6 x 20 x 24"):
            open_volume(save(tmp_path / f"a{suffix}", VOXELS.astype(np.complex64)))
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, None), tmp_path / "rgb.nii")
    with pytest.raises(ArzooError, match="6 x 5 x 4"):
        open_volume(tmp_path / "rgb.nii")
    for shape, axes in (((5, 20, 24, 3), "QYXS"), ((20, 24, 3), "YXS"), ((3, 20, 24), "SYX")):
        tifffile.imwrite(
            tmp_path / "rgb.tif",
            np.zeros(shape, np.uint8),
            photometric="rgb",
            planarconfig=None if shape[-1] == 3 else "separate",
        )
        with pytest.raises(ArzooError, match=f"{' x '.join(map(str, shape))} .axes {axes}.: colours"):
            open_volume(tmp_path / "rgb.tif")
    assert (whole(open_volume(save(tmp_path / "b.h5", VOXELS > 9))) == 255 * (VOXELS > 9)).all()


def test_a_part_is_inside_of_the_volume(tmp_path):
    volume = open_volume(save(tmp_path / "a.h5", VOXELS))
    for start, sides in (((5, 0, 0), (2, 8, 8)), ((-1, 0, 0), (2, 8, 8)), ((0, 0, 0), (0, 8, 8))):
        with pytest.raises(ArzooError, match="not inside"):
            volume.read(start, sides)
    save(tmp_path / "a.h5", VOXELS[:4])
    with pytest.raises(ArzooError, match="has changed"):
        volume.read((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_which_dataset(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    file = h5py.File(path, "w") if suffix == ".h5" else zarr.open_group(path, mode="w", zarr_format=2)

    def add(name, values):
        if suffix == ".h5":
            file[name] = values
            file.flush()
        else:
            file.create_array(name, shape=values.shape, dtype=values.dtype)[:] = values

    add("volumes/raw", VOXELS)
    add("table", VOXELS[0])
    assert (whole(open_volume(path)) == VOXELS).all()
    add("volumes/labels", VOXELS.astype("u8"))
    with pytest.raises(
        ArzooError, match=r"several volumes.*volumes/labels .6 x 20 x 24.*volumes/raw .*dataset"
    ):
        open_volume(path)
    assert open_volume(path, "volumes/raw").name == f"a{suffix}/volumes/raw"
    assert (read_labels(path, "volumes/labels").numpy() == VOXELS).all()
    with pytest.raises(UnknownName, match=r"unknown dataset 'volumes/rew'\. .*raw"):
        open_volume(path, "volumes/rew")
    with pytest.raises(ArzooError, match=r"unknown dataset 'table/x'|'table/x'"):
        open_volume(path, "table/x")
    add("main", 255 - VOXELS)
    volume = open_volume(path)
    assert (volume.dataset, whole(volume)[0, 0, 0]) == ("main", 255 - VOXELS[0, 0, 0])
    if suffix == ".h5":
        file.close()
        with pytest.raises(ArzooError, match="group that holds labels, raw"):
            open_volume(path, "volumes")


def test_formats_of_one_array_have_no_datasets(tmp_path):
    for suffix in (".tif", ".nii"):
        with pytest.raises(UsageError, match="no dataset 'main'"):
            open_volume(save(tmp_path / f"a{suffix}", VOXELS), "main")
    with pytest.raises(ArzooError, match="no dataset 'x'"):
        open_volume(save(tmp_path / "a.zarr", VOXELS), "x")


def test_voxel_sizes_of_attributes(tmp_path):
    for name, value, size in (
        ("resolution", [40, 4, 4], (40.0, 4.0, 4.0)),
        ("element_size_um", [0.035, 0.008, 0.008], (35.0, 8.0, 8.0)),
        ("resolution", [0, 4, 4], None),
        ("resolution", [4, 4], None),
        ("other", [40, 4, 4], None),
    ):
        with h5py.File(save(tmp_path / "a.h5", VOXELS), "a") as file:
            file["main"].attrs[name] = value
        array = zarr.open(save(tmp_path / "a.zarr", VOXELS), mode="a")
        array.attrs[name] = value
        assert open_volume(tmp_path / "a.h5").voxel_size == size
        assert open_volume(tmp_path / "a.zarr").voxel_size == size
    with pytest.raises(UsageError, match="three lengths"):
        open_volume(tmp_path / "a.h5", voxel_size=(1.0, float("nan"), 1.0))


@pytest.mark.parametrize(
    ("unit", "size"), [("mm", (35e3, 8e3, 8e3)), ("micron", (35.0, 8.0, 8.0)), ("unknown", None)]
)
def test_voxel_sizes_of_nifti(tmp_path, unit, size):
    image = nibabel.Nifti1Image(VOXELS.transpose(), None)
    image.header.set_xyzt_units(unit)
    image.header.set_zooms((0.008, 0.008, 0.035))
    nibabel.save(image, tmp_path / "a.nii")
    assert open_volume(tmp_path / "a.nii").voxel_size == size


def test_voxel_sizes_of_tiff(tmp_path):
    path = tmp_path / "a.tif"

    def size(metadata, **settings):
        tifffile.imwrite(path, VOXELS, metadata={"axes": "ZYX", **metadata}, **settings)
        return open_volume(path).voxel_size

    imagej = {"imagej": True, "resolution": (1 / 0.004, 1 / 0.008)}
    assert size({"spacing": 0.035, "unit": "um"}, **imagej) == (35.0, 8.0, 4.0)
    assert size({"spacing": 0.035, "unit": r"\u00B5m"}, **imagej) == (35.0, 8.0, 4.0)
    assert size({"unit": "micron"}, **imagej) == (1000.0, 8.0, 4.0)
    assert size({"spacing": 35, "unit": "pixel"}, **imagej) is None
    assert size({"spacing": 35}, **imagej) is None
    assert size({}, resolution=(1250000, 1250000), resolutionunit="CENTIMETER") is None
    nm = {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    ome = {"PhysicalSizeX": 4.0, "PhysicalSizeY": 8.0, **nm}
    assert size({"PhysicalSizeZ": 0.035, **ome}, ome=True) == (35.0, 8.0, 4.0)
    assert size(ome, ome=True) is None
    assert size({"PhysicalSizeZ": 35.0, "PhysicalSizeZUnit": "pixel", **ome}, ome=True) is None


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for level in range(2):
        values = VOXELS[None, None, :, :: 2**level, :: 2**level]
        group.create_array(f"s{level}", shape=values.shape, dtype="u1")[:] = values
    axes = [{"name": name} for name in "tc"]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scales = {
        "axes": axes,
        "datasets": [
            {
                "path": f"s{level}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1, 1, 0.0175, 0.008, 0.004]},
                    {"type": "translation", "translation": [0, 0, 1, 1, 1]},
                ],
            }
            for level in range(2)
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2, 1, 1]}],
    }

    def stored():
        group.attrs.update(
            {"multiscales": [scales]} if version == "0.4" else {"ome": {"multiscales": [scales]}}
        )

    stored()
    volume = open_volume(path)
    assert (volume.dataset, volume.voxel_size) == ("s0", (35.0, 8.0, 4.0))
    assert (whole(volume) == VOXELS).all()
    assert open_volume(path, "s1").sides == (6, 10, 12)
    del axes[2]["unit"]
    stored()
    assert open_volume(path).voxel_size is None
    axes[2]["name"], axes[4]["name"] = "x", "z"
    stored()
    with pytest.raises(ArzooError, match="axes t, c, x, y, z; the last three must be z, y and x"):
        open_volume(path)
    del scales["datasets"]
    stored()
    with pytest.raises(ArzooError, match="cannot read"):
        open_volume(path)


def test_labels_that_are_refused(tmp_path):
    labels = np.zeros((2, 3, 4), np.uint64)
    labels[1, 2, 3] = 2**64 - 3
    with pytest.raises(ArzooError, match="a label is 18446744073709551613, at most"):
        read_labels(save(tmp_path / "a.h5", labels))
    with pytest.raises(ArzooError, match="a label is -3"):
        read_labels(save(tmp_path / "a.tif", labels.astype("i4")))
    with pytest.raises(ArzooError, match="integers, these are float32"):
        read_labels(save(tmp_path / "a.zarr", labels.astype("f4")))
    labels[1, 2, 3] = 2**63 - 1
    assert read_labels(save(tmp_path / "b.h5", labels))[1, 2, 3] == 2**63 - 1
    assert read_labels(save(tmp_path / "b.tif", (labels > 0).astype("u2"))).sum() == 1


@pytest.mark.parametrize(("slope", "refused"), [((1.0, 0.0), False), ((0.0, 7.0), False), ((2.0, 1.0), True)])
def test_nifti_that_scales(tmp_path, slope, refused):
    path = save(tmp_path / "a.nii", VOXELS)
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", *slope)
    path.write_bytes(content)
    if refused:
        with pytest.raises(ArzooError, match="integers, these are float64"):
            read_labels(path)
        assert open_volume(path).extremes == (2.0 * VOXELS.min() + 1, 2.0 * VOXELS.max() + 1)
    else:
        assert (read_labels(path).numpy() == VOXELS).all()
        assert (whole(open_volume(path)) == VOXELS).all()


def test_tiff_of_other_programs(tmp_path):
    pages = [Image.fromarray(page) for page in VOXELS]
    path = tmp_path / "a.tiff"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert (whole(open_volume(path)) == VOXELS).all()
    pages[0].save(path)
    assert (whole(open_volume(path)) == VOXELS[:1]).all()
    deep = VOXELS.astype("u2") * 200
    for settings in (
        {"imagej": True},
        {"byteorder": ">"},
        {"tile": (16, 16)},
        {"compression": "zlib", "predictor": True},
    ):
        tifffile.imwrite(path, deep, photometric="minisblack", **settings)
        assert (read_labels(path).numpy() == deep).all()
    pages[0].save(path, save_all=True, append_images=[pages[1].crop((0, 0, 9, 9))])
    with pytest.raises(ArzooError, match="several shapes"):
        open_volume(path)
    tifffile.imwrite(path, VOXELS, photometric="miniswhite")
    with pytest.raises(ArzooError, match="MinIsWhite"):
        open_volume(path)
    tifffile.imwrite(path, VOXELS[:, None], imagej=True, metadata={"axes": "ZCYX"})
    assert (whole(open_volume(path)) == VOXELS).all()
    tifffile.imwrite(path, VOXELS[:3], imagej=True)
    with pytest.raises(ArzooError, match=r"axes CYX.: colours"):
        open_volume(path)


def test_tiff_whose_compression_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    pages = [Image.fromarray(page) for page in VOXELS]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    with pytest.raises(ArzooError, match="imagecodecs"):
        open_volume(tmp_path / "a.tif").read((0, 0, 0), (1, 1, 1))


def test_a_tiff_of_a_set_is_refused(tmp_path):
    """Names of other files are read as they are, and missing ones would be zeros."""
    tifffile.imwrite(tmp_path / "other.tif", 255 - VOXELS, photometric="minisblack")
    tifffile.imwrite(tmp_path / "a.ome.tif", VOXELS, ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        xml = tiff.ome_metadata
    before, _, after = xml.partition('<TiffData IFD="0" PlaneCount="6"/>')
    own = xml.split('UUID="')[1].split('"')[0]
    assert after
    for other in ("other.tif", "gone.tif"):
        data = "".join(
            f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{uuid}</UUID></TiffData>'
            for z in range(6)
            for name, uuid in [("a.ome.tif", "1") if z < 2 else (other, "2")]
        )
        said = (before + data + after).replace(own, "urn:uuid:1")
        tifffile.imwrite(
            tmp_path / "a.ome.tif", VOXELS[:2], photometric="minisblack", description=said, metadata=None
        )
        with pytest.raises(ArzooError, match="set of files"):
            open_volume(tmp_path / "a.ome.tif")


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    plain = {"zarr_format": 2, "shape": [2, 3, 4], "chunks": [2, 3, 4], "dtype": "|u1", "compressor": None}
    plain |= {"fill_value": None, "order": "C", "filters": None}
    (path / "0.0.0").write_bytes(pickle.dumps(Trap(str(tmp_path / "opened"))))
    pickled = {"id": "pickle", "protocol": 5}
    for change in ({"dtype": "|O", "filters": [pickled]}, {"filters": [pickled]}, {"compressor": pickled}):
        (path / ".zarray").write_text(json.dumps(plain | change))
        with pytest.raises(ArzooError, match="pickle"):
            open_volume(path).read((0, 0, 0), (1, 1, 1))
    assert not (tmp_path / "opened").exists()
    (path / ".zarray").write_text(json.dumps(plain | {"filters": [{"id": "base64"}]}))
    with pytest.raises(ArzooError, match="packed by base64"):
        open_volume(path)


class Trap:
    """Writes an empty file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


SETTINGS = {
    "gzip": {"level": 1},
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0},
}


@pytest.mark.parametrize("version", [2, 3])
def test_codecs_of_zarr(tmp_path, version):
    for codec in ("zstd", "gzip", "blosc", None):
        chosen = {"id": codec} if version == 2 else {"name": codec, "configuration": SETTINGS.get(codec, {})}
        array = zarr.create_array(
            tmp_path / f"{codec}.zarr",
            shape=VOXELS.shape,
            chunks=(2, 5, 6),
            shards=(4, 10, 12) if version == 3 and codec is None else None,
            dtype="u1",
            zarr_format=version,
            compressors=chosen if codec else "auto",
        )
        array[:] = VOXELS
        assert (whole(open_volume(tmp_path / f"{codec}.zarr")) == VOXELS).all()


def test_hdf5_stays_in_its_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = VOXELS
    layout = h5py.VirtualLayout(VOXELS.shape, "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", VOXELS.shape)
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        file["soft"] = h5py.SoftLink("/link")
        file["group/link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "raw", VOXELS.shape, "u1", external=[(str(tmp_path / "other.h5"), 0, VOXELS.size)]
        )
    for name, said in (
        ("link", "'link' is a link to .*other.h5 /x"),
        ("soft", "'soft' is a link to /link"),
        ("group/link/x", "'group/link' is a link"),
        ("virtual", "refers to data elsewhere"),
        ("raw", "refers to data elsewhere"),
    ):
        with pytest.raises(ArzooError, match=said):
            open_volume(path, name)
        with pytest.raises(ArzooError, match=said):
            read_labels(path, name)
    with pytest.raises(ArzooError, match=r"several volumes: raw .*virtual"):
        open_volume(path)


@pytest.mark.parametrize("suffix", [".h5", ".tif", ".nii", ".nii.gz"])
def test_damaged_files(tmp_path, suffix, caplog, capfd):
    good, path = tmp_path / f"good{suffix}", tmp_path / f"a{suffix}"
    with pytest.raises(ArzooError, match="there is no file"):
        open_volume(path)
    write_volume(good, torch.from_numpy(VOXELS))
    content = good.read_bytes()
    for damaged in (b"", b"hello" * 99, content[: len(content) // 2], content[:-20], content[:40]):
        path.write_bytes(damaged)
        with pytest.raises(ArzooError, match=r"cannot read .*a\.|damaged|not complete"):
            whole(open_volume(path))
    assert not caplog.records
    assert capfd.readouterr().err == ""
    assert logging.getLogger("tifffile").propagate


@pytest.mark.parametrize(
    "settings", [{}, {"metadata": None}, {"imagej": True}, {"compression": "zlib"}, {"tile": (16, 16)}]
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_tiff_that_ends_early_is_no_shorter_volume(tmp_path, settings, share):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOXELS, photometric="minisblack", **settings)
    os.truncate(path, int(path.stat().st_size * share))
    try:
        found = whole(open_volume(path))
    except ArzooError:
        return
    assert (found == VOXELS).all()  # only the list of pages is cut, which ImageJ does not need


def test_what_is_no_volume(tmp_path):
    for name in ("folder", "folder.zarr", "folder.h5"):
        (tmp_path / name).mkdir()
        with pytest.raises(ArzooError, match=r"is no Zarr.*\.h5"):
            open_volume(tmp_path / name)
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(UsageError, match=r"\.h5, \.hdf5, \.hdf, \.nii, \.nii\.gz, \.tif, \.tiff, \.zarr"):
        open_volume(tmp_path / "a.npy")
    (tmp_path / "a.zarr").write_bytes(b"PK")
    with pytest.raises(ArzooError, match="is a file; a Zarr is a folder"):
        open_volume(tmp_path / "a.zarr")
    path = save(tmp_path / "b.zarr", VOXELS)
    (path / "c/0/0/0").write_bytes(b"hello")
    with pytest.raises(ArzooError, match="cannot read"):
        whole(open_volume(path))
    (path / "zarr.json").write_text("{")
    with pytest.raises(ArzooError, match="cannot read"):
        open_volume(path)


def test_chunks_that_are_not_asked_for_are_not_read(tmp_path):
    """Broken chunks, pages and rows do no harm to others."""
    path = save(tmp_path / "a.zarr", VOXELS)
    (path / "c/0/0/0").write_bytes(b"hello")
    assert (open_volume(path).read((2, 0, 0), (4, 20, 24)).numpy() == VOXELS[2:]).all()
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("main", VOXELS.shape, "u1", chunks=(2, 20, 24), compression="gzip")
        stored[2:] = VOXELS[2:]
        stored.id.write_direct_chunk((0, 0, 0), b"hello")
    assert (open_volume(path).read((2, 0, 0), (4, 20, 24)).numpy() == VOXELS[2:]).all()
    with pytest.raises(ArzooError, match="cannot read"):
        open_volume(path).read((1, 0, 0), (2, 1, 1))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOXELS, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        (offset, *_), (count, *_) = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    content = path.read_bytes()
    path.write_bytes(content[:offset] + bytes(count) + content[offset + count :])
    assert (open_volume(path).read((1, 0, 0), (5, 20, 24)).numpy() == VOXELS[1:]).all()
    with pytest.raises(ArzooError, match="cannot read"):
        open_volume(path).read((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_are_closed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(path, torch.from_numpy(VOXELS))
    volume = open_volume(path)
    volume.read((0, 0, 0), (2, 2, 2))
    assert not [link for link in open_files() if str(path) in link]


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_volumes_are_read_in_other_processes(tmp_path, suffix):
    """Zarr reads in threads, which a fork does not have."""
    path = tmp_path / f"a{suffix}"
    write_volume(path, torch.from_numpy(VOXELS))
    volume = open_volume(path)
    volume.read((0, 0, 0), (1, 1, 1))
    loader = torch.utils.data.DataLoader(
        Slices(volume), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=30
    )
    assert (torch.stack(list(loader)).numpy() == VOXELS).all()


class Slices(torch.utils.data.Dataset):
    def __init__(self, volume):
        self.volume = volume

    def __len__(self):
        return self.volume.sides[0]

    def __getitem__(self, z):
        return self.volume.read((z, 0, 0), (1, *self.volume.sides[1:]))[0]


def open_files():
    folder = f"/proc/{os.getpid()}/fd"
    if not os.path.isdir(folder):
        pytest.skip("only Linux lists the open files of a process")
    return [
        os.readlink(f"{folder}/{name}") for name in os.listdir(folder) if os.path.islink(f"{folder}/{name}")
    ]


@pytest.mark.parametrize(
    ("suffix", "module"), [(".h5", "h5py"), (".nii", "nibabel"), (".tif", "tifffile"), (".zarr", "zarr")]
)
def test_the_extra_that_is_missing_is_named(tmp_path, monkeypatch, suffix, module):
    path = tmp_path / f"a{suffix}"
    write_volume(path, torch.from_numpy(VOXELS))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage, match=r"arzoo\[em\]"):
        open_volume(path)
    with pytest.raises(MissingPackage, match=r"arzoo\[em\]"):
        write_volume(tmp_path / f"b{suffix}", torch.from_numpy(VOXELS))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_paths_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLUMES", str(tmp_path))
    write_volume("$VOLUMES/a.h5", torch.from_numpy(VOXELS))
    assert open_volume("$VOLUMES/a.h5").path == tmp_path / "a.h5"
    assert read_labels("$VOLUMES/a.h5").shape == VOXELS.shape
