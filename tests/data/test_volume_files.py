"""Volumes in files: what is written is read, by parts and with the scale of the whole."""

from __future__ import annotations

import pickle

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from volumes import SIZE, SUFFIXES, VOXELS, save, whole

from arzoo.base.errors import ArzooError, UsageError
from arzoo.data import volume_files
from arzoo.data.volume_files import open_volume, read_labels, write_volume


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
        with pytest.raises(ArzooError, match=f"{' x '.join(map(str, shape))} .axes {axes}.: colors"):
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
