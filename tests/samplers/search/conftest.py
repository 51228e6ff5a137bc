"""Fixtures that the tests of search share."""

import pytest
from contracts.cases import cases


@pytest.fixture(scope="session")
def networks():
    """Networks of every kind, which no test changes."""
    return cases()
