"""Files of volumes that are not trusted or damaged, and how little of a file is read."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys

import h5py
import pytest
import tifffile
import torch
import zarr
from volumes import SUFFIXES, VOXELS, save, whole

from arzoo.base.errors import ArzooError, MissingPackage, UsageError
from arzoo.data.volume_files import open_volume, read_labels, write_volume

SETTINGS = {
    "gzip": {"level": 1},
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0},
}


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
