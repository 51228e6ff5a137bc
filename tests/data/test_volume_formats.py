"""Formats of volumes: which array is taken, how large voxels are, what other programs write."""

from __future__ import annotations

import importlib.util
import struct

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from volumes import VOXELS, save, whole

from arzoo.base.errors import ArzooError, MissingPackage, UnknownName, UsageError
from arzoo.data import volume_formats
from arzoo.data.tiff_pages import unpacks
from arzoo.data.volume_files import open_volume, read_labels


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
    with pytest.raises(ArzooError, match=r"axes CYX.: colors"):
        open_volume(path)


@pytest.fixture
def alone(monkeypatch):
    """As if imagecodecs were not installed."""
    monkeypatch.setattr(volume_formats, "unpacks", lambda page: page.compression.name not in ("LZW", "JPEG"))


def save_packed(path, values, compression="tiff_lzw", **settings):
    first, *others = (Image.fromarray(page) for page in values)
    first.save(path, save_all=True, append_images=others, compression=compression, **settings)
    return path


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "f4"])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("slices", [6, 1])
def test_tiff_packed_by_lzw(tmp_path, dtype, predictor, slices):
    values = (VOXELS[:slices].astype(dtype) * (1 if dtype == "u1" else 100)).astype(dtype)
    predicted = {} if dtype == "f4" else {"tiffinfo": {317: predictor}}
    volume = open_volume(save_packed(tmp_path / "a.tif", values, **predicted))
    expected = whole(open_volume(save(tmp_path / "a.h5", values)))
    assert (whole(volume) == expected).all()
    part = volume.read((slices - 1, 3, 5), (1, 10, 7))
    assert (part.numpy() == expected[slices - 1 :, 3:13, 5:12]).all()
    if dtype != "f4":
        assert (read_labels(tmp_path / "a.tif").numpy() == values).all()


@pytest.mark.usefixtures("alone")
def test_tiff_packed_by_jpeg(tmp_path):
    voxels = whole(open_volume(save_packed(tmp_path / "a.tif", VOXELS // 8 * 8, "jpeg")))
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(3)
        assert (voxels[3] == image).all()


def test_what_tifffile_unpacks(tmp_path):
    for compression, known in (
        ("tiff_lzw", importlib.util.find_spec("imagecodecs") is not None),
        ("packbits", True),
        ("tiff_adobe_deflate", True),
    ):
        with tifffile.TiffFile(save_packed(tmp_path / "a.tif", VOXELS, compression)) as tiff:
            assert unpacks(tiff.series[0].keyframe) == known, compression


@pytest.mark.usefixtures("alone")
def test_tiff_whose_compression_needs_a_package(tmp_path):
    path = save_packed(tmp_path / "a.tif", VOXELS.astype("i4"))
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:  # numbers without a sign, which Pillow reads with one
            content[page.tags[339].valueoffset] = 1
    path.write_bytes(content)
    with pytest.raises(MissingPackage, match=r"packed by LZW, .* uint32, .*pip install imagecodecs$"):
        read_labels(path)


@pytest.mark.usefixtures("alone")
def test_a_damaged_tiff_packed_by_lzw(tmp_path):
    path = save_packed(tmp_path / "a.tif", VOXELS)
    content = path.read_bytes()
    for damaged in (
        content[: len(content) // 2],
        content[:300],
        content.replace(content[40:60], b"\xff" * 20),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ArzooError, match=r"cannot read .*a\.tif|damaged|not complete"):
            whole(open_volume(path))


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
