"""The example of a third-party package: installed, found by name, and drawing with a shipped tokenizer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripted import ROOT

EXAMPLE = ROOT / "examples" / "spiral"
CHECK = """
import torch

import arzoo
from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.verifiers.base import Subject

assert "gru_tiny" in arzoo.list_models() and "spiral" in registry.names("plan")
torch.manual_seed(0)
model = Generator.create("gru_tiny", arzoo.load("vq_emoji64"), "spiral", classes=("a", "b"),
                         tokenizer_name="vq_emoji64", tokenizer_hash="")
plan, cond = model.plan(), Cond(2, label=torch.tensor([0, 1]))
assert (len(plan), plan.layout.size) == (64, 64)
assert set(plan.rank.argsort()[:4].tolist()) == {27, 28, 35, 36}
with torch.no_grad():
    values = torch.randint(model.tokenizer.spec.vocab, (2, 64))
    parallel = model.backbone.features(Tokens.of(values), cond, plan).features
    state = model.backbone.start(cond, plan, 1)
    for k, group in enumerate(plan.groups):
        read = model.backbone.step(state, Tokens.of(values), k)
        torch.testing.assert_close(read.features, parallel[:, group[0]])
assert model.generate([0, 1]).images.shape == (2, 64, 64, 3)
result = model.search(BestOfN(3), open_verifier("symmetry", Subject(label="a"), power=2), classes=[0])
assert float(result.scores[0]) == float(result.history[0].scores.max()) <= 1
assert torch.equal(model.generate([1], seeds=[5]), model.generate([0, 1], seeds=[4, 5])[1:])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    pytest.importorskip("setuptools")
    source, target = tmp_path_factory.mktemp("source") / "spiral", tmp_path_factory.mktemp("target")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target))
    run(Path(), "-m", "pip", "install", *options, str(source))
    return target


def run(target: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_found_and_draws(installed):
    run(installed, "-c", CHECK)


def test_the_command_line_knows_it(installed):
    table = run(installed, "-m", "arzoo.cli", "models", "gru*", "--matrix")
    assert "spiral" in table
    assert "gru" in table
    assert (
        "spiral, several steps in one call: GRUBackbone keeps a summary of what it has read, from which wrong"
        in table
    )
    assert "symmetry" in run(installed, "-m", "arzoo.cli", "verifiers", "ls")
