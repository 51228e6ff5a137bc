"""Generators that draw a pyramid, level by level (VAR) and stage by stage (Hi-MAR): search and animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import command
from next_scale import multi_scale_tokenizer, next_scale_generator
from PIL import Image
from two_stages import two_stage_generator

from arzoo.base.runtime import sample_seed
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles

ENDS = {"var": [1, 2, 3], "himar": [2, 5]}
"""Steps after which each level is drawn."""


TOKENIZERS = {"var": "codes", "himar": "patches"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    next_scale_generator(folder / "var", multi_scale_tokenizer(folder / "codes"))
    two_stage_generator(folder / "patches").save(folder / "himar")
    return folder


@pytest.fixture(scope="module")
def models(folder) -> dict[str, Generator]:
    return {name: Generator.load(folder / name, folder / tokenizer) for name, tokenizer in TOKENIZERS.items()}


def red(pictures):
    return pictures[..., 0].double().flatten(1).mean(1)


@pytest.mark.parametrize("name", ENDS)
def test_candidates_are_compared_after_every_level(models, name):
    """Beams look at previews of coarse levels, and a lookahead at what they become; both find better pictures."""
    model, tokens = models[name], 21 if name == "var" else 16
    plain = float(red(model.generate([1], seed=3).tensor))
    for algorithm in (Beam(2, 3, lengths=ENDS[name]), Lookahead(2, 3, lengths=ENDS[name], ahead=-1)):
        result = model.search(algorithm, red, classes=[1], seed=3)
        assert [comparison.steps for comparison in result.history] == ENDS[name]
        assert float(result.scores[0]) == float(red(result.pictures))
        assert result.pictures.token_counts.tolist() == [tokens]
        first = result.history[0]
        assert len(first.scores.unique()) > 1, "the first level alone tells candidates apart"
        assert torch.equal(first.tokens.known.sum(1), torch.full((3,), {"var": 1, "himar": 4}[name]))
        assert float(result.scores[0]) > plain
    for algorithm in (BestOfN(3), Particles(3, temperature=5.0)):
        assert model.search(algorithm, red, classes=[1], seed=3).pictures.token_counts.tolist() == [tokens]


@pytest.mark.parametrize("name", ENDS)
def test_the_first_comparison_looks_at_the_first_level_alone(models, name):
    model, seen = models[name], list[torch.Tensor]()

    def watching(pictures):
        seen.append(pictures.clone())
        return red(pictures)

    first = model.search(Beam(2, 3, lengths=ENDS[name]), watching, classes=[1], seed=3).history[0]
    if name == "himar":  # pivots show as the patches that they cover
        pivots = first.tokens.values[:, :4].unflatten(1, (2, 2))
        dense = pivots.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
        expected = model.decode(Tokens.of(dense))
    else:
        expected = model.decode(first.tokens.first(1))
    assert (seen[0].int() - expected.tensor.int()).abs().max() <= 1


@pytest.mark.parametrize("name", ENDS)
def test_animations_have_a_frame_after_every_step(capsys, folder, models, tmp_path, name):
    options = ["--tokenizer", folder / TOKENIZERS[name], "--num", 2, "--animate", "--out", tmp_path, "--json"]
    done = command(capsys, "generate", folder / name, *options)
    assert done.status == 0, done.err
    seeds = [sample_seed(0, i) for i in range(2)]
    steps = models[name].stream(classes=[0, 1], seeds=seeds)
    expected = [step.preview().stills[1].numpy() for step in steps]
    frames = _frames(Path(done.json["animations"][1]))
    assert len(frames) == len(expected) == ENDS[name][-1]
    for frame, shown in zip(frames, expected, strict=True):
        assert np.abs(frame[::6, ::6].astype(int) - shown).max() <= 1


def _frames(path: Path) -> list[np.ndarray]:
    image, frames = Image.open(path), []
    for i in range(image.n_frames):
        image.seek(i)
        frames.append(np.asarray(image.convert("RGB")))
    return frames
