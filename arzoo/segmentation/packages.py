"""Packages of the extra `neurons`, which have changed what they take from version to version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from arzoo.base.errors import ArzooError


@contextlib.contextmanager
def working(package: str, requirement: str) -> Iterator[None]:
    """Say what to do where a package is there and what is asked of it fails.

    Args:
        package: Its name.
        requirement: What pip should install.

    Raises:
        ArzooError: Anything went wrong inside.
    """
    try:
        yield
    except Exception as error:
        raise ArzooError(
            f"{package} is installed and failed ({type(error).__name__}: {error}). Install a version that works "
            f"(pip install '{requirement}'), or take the agglomeration mean_affinity, which does without"
        ) from error
