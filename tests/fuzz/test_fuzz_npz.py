"""npz files with flipped bytes, cut short, with pickles, of other shapes and types, and bombs: never another array."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from fuzz.settings import cuts, examples, flips, only_ours
from hypothesis import given
from hypothesis import strategies as st

from arzoo.base.errors import ArzooError

npz = pytest.importorskip("arzoo.data.npz", reason="needs arzoo evaluate")

PICTURES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
STATISTICS = {"mu": np.linspace(0, 1, 6), "sigma": np.eye(6)}


def stored(packed: bool = False, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    return file.getvalue()


def pictures_of(path):
    found = npz.NpzFile(path)
    header = found.pictures()
    with found.open("arr_0") as stream:
        content = found.read(stream, int(np.prod(header.shape)))
    return np.frombuffer(content, np.uint8).reshape(header.shape)


@examples(200)
@given(st.data(), st.booleans())
def test_damaged_pictures(tmp_path, data, packed):
    whole = stored(packed, arr_0=PICTURES)
    path = tmp_path / "x.npz"
    path.write_bytes(data.draw(flips(whole) | cuts(whole) | st.binary(max_size=60)))
    with only_ours():
        assert np.array_equal(pictures_of(path), PICTURES), "another result, silently"


@examples(200)
@given(st.data(), st.booleans())
def test_damaged_statistics(tmp_path, data, packed):
    whole = stored(packed, **STATISTICS)
    path = tmp_path / "x.npz"
    path.write_bytes(data.draw(flips(whole) | cuts(whole)))
    with only_ours():
        found = npz.NpzFile(path)
        assert np.array_equal(found.array("mu", 1), STATISTICS["mu"])
        assert np.array_equal(found.array("sigma", 2), STATISTICS["sigma"])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 4, 5, 3)),
        np.zeros((2, 4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((0, 4, 5, 3), np.uint8),
        np.array([{"a": 1}], dtype=object),
        np.asfortranarray(PICTURES),
    ],
)
def test_other_shapes_types_and_pickles(tmp_path, wrong):
    (tmp_path / "x.npz").write_bytes(stored(arr_0=wrong))
    with pytest.raises(ArzooError):
        pictures_of(tmp_path / "x.npz")


def test_a_bomb(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 4, 4, 3)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(100))
    with pytest.raises(ArzooError, match="size that its header says"):
        npz.NpzFile(tmp_path / "x.npz")
