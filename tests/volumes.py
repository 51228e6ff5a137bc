"""Volumes for tests, and files of them as other programs write them."""

from __future__ import annotations

import shutil

import h5py
import nibabel
import numpy as np
import tifffile
import zarr

SUFFIXES = (".h5", ".hdf5", ".tif", ".nii", ".nii.gz", ".zarr")
SIZE = (35.0, 8.0, 4.03)
VOXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 24), dtype=np.uint8)


def whole(volume):
    return volume.read((0, 0, 0), volume.sides).numpy()


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
