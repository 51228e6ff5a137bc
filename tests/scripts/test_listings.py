"""The stored listings are those of the parts."""

import json

import pytest
from scripted import scripts

from arzoo.base import registry
from arzoo.generation import matrix

REMEDY = "write it anew with: python scripts/dev/listings.py"


@pytest.fixture
def listings():
    with scripts("scripts/dev") as script:
        yield script("listings")


def test_stored_names_and_descriptions_are_those_of_the_modules(listings):
    assert json.loads(registry.LISTING.read_text(encoding="utf-8")) == listings.names(), REMEDY
    for kind in registry.HOMES:
        assert list(registry.summaries(kind)) == registry.names(kind)


def test_the_stored_matrix_is_the_computed_one(listings):
    assert json.loads(matrix.LISTING.read_text(encoding="utf-8")) == listings.fits(), REMEDY
