"""Kept features are those that were measured, or are measured again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from command import ten_pictures
from safetensors.torch import load_file, save_file
from tiny_net import tiny_net

from arzoo.data.pictures import DataPictures
from arzoo.metrics.bank import measure
from arzoo.metrics.cache import HASH, content_sha256, is_kept, measure_once
from arzoo.metrics.reference import save_statistics, stored_statistics
from arzoo.metrics.remarks import _dark


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Pictures, a network, what was measured of them, and the file that keeps it."""
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    pictures, net = DataPictures(ten_pictures(32)), tiny_net()
    found = measure_once(pictures, net)
    (path,) = tmp_path.rglob("*.safetensors")
    assert is_kept(pictures, net)
    return pictures, net, found, path


def test_a_flipped_byte_or_a_missing_end_is_measured_again(kept):
    pictures, net, found, path = kept
    whole = path.read_bytes()
    places = [*range(0, len(whole), len(whole) // 25), len(whole) - 1]
    for damaged in [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in places] + [whole[:-1], b""]:
        path.write_bytes(damaged)
        again = measure_once(pictures, net)
        assert torch.equal(again.features, found.features)
        assert again.sha256 == found.sha256
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 4]))
    assert not is_kept(pictures, net)


def test_kept_and_stored_measurements_know_how_dark_the_pictures_are(kept, tmp_path):
    """Pictures of floats in 0..1 are black, which is said whether they were measured now or before."""
    pictures, net, found, _ = kept
    assert measure_once(pictures, net).brightest == found.brightest == 255
    save_statistics(tmp_path / "stored.npz", found, net)
    assert stored_statistics(tmp_path / "stored.npz", net).brightest == 255
    dark = DataPictures(replace(ten_pictures(32), images=torch.ones_like(pictures.data.images)))
    measure_once(dark, net)
    assert is_kept(dark, net)
    assert _dark("reference pictures", measure_once(dark, net)) == _dark(
        "reference pictures", measure(dark, net)
    )
    assert "scaled to 0..1" in _dark("reference pictures", measure_once(dark, net))[0]


def test_files_without_a_hash_or_without_features_are_measured_again(kept):
    pictures, net, _, path = kept
    tensors = load_file(path)
    save_file(tensors, path)
    assert not is_kept(pictures, net)
    del tensors["features"]
    save_file(tensors, path, metadata={HASH: content_sha256(tensors)})
    assert not is_kept(pictures, net)
