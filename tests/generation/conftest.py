"""Tiny models that several files of tests share. No test changes them or writes into their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import tiny_kl_tokenizer, tiny_models
from continuous import made

from arzoo.generation.generator import Generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a generator `gen` of codes, its tokenizer `tok`, and the tokenizer `vectors`."""
    folder = tiny_models(tmp_path_factory.mktemp("models"))
    tiny_kl_tokenizer(folder / "vectors")
    return folder


@pytest.fixture(scope="module")
def model(folder) -> Generator:
    """A generator of codes in a fixed order, of three classes."""
    return Generator.load(folder / "gen")


@pytest.fixture(scope="module")
def masked(folder) -> Generator:
    """A generator of vectors in a random order."""
    return made("mar", folder / "vectors")
