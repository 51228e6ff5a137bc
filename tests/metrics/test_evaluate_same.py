"""The same number for any batch size and number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import picture
from scripted import ROOT
from tiny_net import METRICS, TinyNet, one_of_two, scores

from arzoo.base.errors import ArzooError
from arzoo.data.pictures import FolderPictures
from arzoo.metrics.bank import FeatureBank, measure, own_rows
from arzoo.models.vision.features import feature_net


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Two sets of pictures, of numbers that no batch size divides."""
    root = tmp_path_factory.mktemp("sets")
    for name, count, first in (("samples", 45, 0), ("reference", 71, 1000)):
        (root / name).mkdir()
        for i in range(count):
            picture(root / name / f"{i:04d}.png", seed=first + i)
    return root / "samples", root / "reference"


def test_batches_of_7_and_32(folders):
    few, many = (scores(*map(str, folders), batch) for batch in (7, 32))
    assert len(few) > len(METRICS)
    for name, value in few.items():
        assert value == pytest.approx(many[name], rel=1e-6, abs=1e-9), name


def test_batches_of_7_and_32_in_the_embedded_network(folders):
    found = [scores(*map(str, folders), batch, feature_net()) for batch in (7, 32)]
    for name, value in found[0].items():
        assert value == pytest.approx(found[1][name], rel=1e-6), name


def test_one_and_two_processes(folders, tmp_path):
    alone = scores(*map(str, folders), 32)
    arguments = (str(tmp_path / "store"), *map(str, folders), 7, str(tmp_path))
    torch.multiprocessing.spawn(one_of_two, arguments, nprocs=2)
    for rank in (0, 1):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            assert together[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.slow
def test_the_command_under_a_launcher_prints_one_document(folders, tmp_path):
    options = [
        "evaluate",
        *map(str, (folders[0], "--reference", folders[1])),
        "--metrics",
        "fd",
        "kid",
        "--num",
        "9",
    ]
    options += ["--bootstrap", "0", "--json"]
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    found = []
    for launcher in (
        [sys.executable, "-m"],
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"],
    ):  # fmt: skip
        done = subprocess.run(
            [*launcher, "arzoo.cli", *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    one, two = found
    assert one["protocol"] == two["protocol"]
    for name, figure in one["figures"].items():
        assert two["figures"][name]["value"] == pytest.approx(figure["value"], rel=1e-6), name


def test_the_bank_refuses_pictures_that_were_measured_twice_or_never():
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    bank = FeatureBank(TinyNet())
    bank.update(images, torch.tensor([0, 1, 1, 3]))
    with pytest.raises(ArzooError, match="its own rows"):
        bank.measured()


def test_the_bank_orders_what_it_is_given():
    images = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
    straight, mixed = FeatureBank(TinyNet()), FeatureBank(TinyNet())
    straight.update(images, torch.arange(6))
    for rows in ([4, 1], [0, 5, 3], [2]):
        mixed.update(images[rows], torch.tensor(rows))
    a, b = straight.measured(), mixed.measured()
    assert a.sha256 == b.sha256
    assert torch.allclose(a.features, b.features)
    torch.testing.assert_close(a.statistics.covariance, b.statistics.covariance)


def test_sums_alone_give_the_same_statistics(folders):
    pictures = FolderPictures(folders[0])
    bank = FeatureBank(TinyNet(), keep=False)
    bank.update(pictures.read(range(45)), torch.arange(45))
    found = bank.measured()
    assert found.features is None
    kept = measure(pictures, TinyNet())
    torch.testing.assert_close(found.statistics.covariance, kept.statistics.covariance)


def test_features_that_are_no_numbers_are_refused():
    net = TinyNet()
    net.mix.data[0, 0] = float("nan")
    bank = FeatureBank(net)
    bank.update(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.arange(2))
    with pytest.raises(ArzooError, match="not finite"):
        bank.measured()


def test_a_process_needs_pictures():
    with pytest.raises(ArzooError, match="mine has 1 picture, too few"):
        own_rows(1, "mine")
