"""The example of a third-party package: installed, found by name, and drawing with a shipped tokenizer.

The Python of README, docs/python.md and docs/extending.md, which uses it, runs as it is written.
"""

import os
import re
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
assert model.generate([0, 1]).stills.shape == (2, 64, 64, 3)
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


def run(target: Path, *arguments: str, folder: Path | None = None) -> str:
    path = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_found_and_draws(installed):
    run(installed, "-c", CHECK)


def test_the_command_line_knows_it(installed):
    table = run(installed, "-m", "arzoo.cli", "models", "gru*", "--matrix")
    assert "spiral" in table
    assert "gru" in table
    (reason,) = (
        line for line in table.splitlines() if line.startswith("spiral, several steps in one call: ")
    )
    assert "keeps a summary of what it has read, from which wrong guesses cannot be taken back" in reason
    assert "symmetry" in run(installed, "-m", "arzoo.cli", "verifiers", "ls")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


CHECK_PAGE = """
import PIL.Image

assert (len(faces.images), faces.subjects[:2]) == (4, ("cat-face/openmoji", "cat-face/twemoji"))
assert isinstance(first, PIL.Image.Image) and len(list(__import__("pathlib").Path("out/faces").iterdir())) == 4
assert torch.equal(model.generate("cat-face", num=2, seed=1), pictures) and again.shape == faces.shape
assert torch.equal(same.tensor, again.tensor) and torch.equal(model.encode(faces).values, codes.values)
top = around.encode(completed.images).values[:, :32] - around.encode(first).values[:, :32]
assert completed.shape == (2, 1, 64, 64, 3) and top.abs().mean() < 0.5
assert score.nats.shape == (4,) and 0 < float(score.bits_per_dimension.max()) < 10
assert len(raster.with_plan("columns").plan()) == 64 and strange.shape == noise[:1].shape
assert len(mine.plan()) == 64 and torch.equal(arzoo.load("out/mine").generate(["a", "b"]), noise)
"""


def test_the_pages_about_python_run_as_they_are_written(installed, tmp_path):
    code = "\n".join(
        [*blocks("docs/python.md", "python"), *blocks("docs/extending.md", "python"), CHECK_PAGE]
    )
    printed = run(installed, "-c", code, folder=tmp_path)
    assert "Generator of pictures, 64 x 64 pixels, 5.7M parameters" in printed
    project = (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    assert all(block.strip() in project for block in blocks("docs/extending.md", "toml"))
    languages = {
        page: [
            word for word in re.findall(r"```(\w*)", (ROOT / page).read_text()) if word not in ("", "bash")
        ]
        for page in ("docs/python.md", "docs/extending.md")
    }
    assert languages == {
        "docs/python.md": ["python"] * 5,
        "docs/extending.md": ["python", "toml", "python"],
    }, "every block is one that was run or compared; commands are in test_launch_lines"


def test_the_python_of_the_readme_and_of_a_search_runs_as_it_is_written(installed, tmp_path):
    (first,), (search, score, _) = blocks("README.md", "python"), blocks("docs/search.md", "python")
    smaller = (search + score).replace("BestOfN(30)", "BestOfN(2)").replace("Beam(5, 10)", "Beam(2, 2)")
    smaller = smaller.replace("decodes=100", "decodes=8")
    run(installed, "-c", first + smaller, folder=tmp_path)
    assert len(list((tmp_path / "out/cats").iterdir())) == 4
