"""How long the fuzzing looks: short enough for every run, deterministic, and no example is kept between runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from arzoo.base.errors import ArzooError


def examples(count: int) -> settings:
    """Settings of one property."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=checks
    )


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "auto", "1e-3"]),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
"""Whatever JSON or YAML can hold."""


@contextmanager
def only_ours() -> Iterator[None]:
    """What is wrong is said by an `ArzooError` of one paragraph, and by nothing else."""
    try:
        yield
    except ArzooError as error:
        if not str(error).strip() or "\n\n" in str(error).strip():
            raise


def flips(content: bytes) -> st.SearchStrategy[bytes]:
    """The same bytes with up to three of them changed."""

    def changed(places: list[tuple[int, int]]) -> bytes:
        out = bytearray(content)
        for place, value in places:
            out[place] ^= value
        return bytes(out)

    place = st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255))
    near = st.tuples(st.integers(0, min(len(content), 400) - 1), st.integers(1, 255))
    return st.lists(place | near, min_size=1, max_size=3).map(changed)


def cuts(content: bytes) -> st.SearchStrategy[bytes]:
    """The beginning of the bytes."""
    return st.integers(0, len(content) - 1).map(lambda end: content[:end])
