"""Recorded outputs of published code, and comparisons that a NaN or a wrong shape cannot pass.

A recording is a pair NAME.safetensors and NAME.json. The folder is taken from the environment variable ARZOO_GOLDENS;
without it, `shared/goldens` beside the checkout, then the small copies in tests/golden. A missing recording skips the
test and says which file is missing.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "golden"
TOLERANCE = 2e-5
"""Largest absolute error allowed in float32, relative to the largest absolute value of the recorded tensor."""
GRADIENT_TOLERANCE = 1e-4


class Golden(dict[str, Tensor]):
    """Recorded tensors by name.

    Attributes:
        info: Content of the JSON file: constructor arguments, settings, notes.
        path: Where they were read; a copy in tests/golden may hold only some of the tensors.
    """

    def __init__(self, tensors: dict[str, Tensor], info: dict[str, Any], path: Path | None = None) -> None:
        super().__init__(tensors)
        self.info, self.path = info, path

    def sub(self, prefix: str) -> Golden:
        """Tensors whose names start with `prefix`, without it; skips the calling test when a small copy lacks them."""
        found = {key[len(prefix) :]: value for key, value in self.items() if key.startswith(prefix)}
        if not found and self.path is not None and self.path.parent == SMALL:
            pytest.skip(f"the small copy {self.path} holds no {prefix!r}, the full recording does")
        assert found, f"no recorded tensor starts with {prefix!r}"
        return Golden(found, self.info, self.path)


def variant(golden: Golden, name: str) -> str:
    """The name of a part of a recording; skips the calling test when the recording has no such part."""
    if not any(key.startswith(f"{name}.") for key in golden):
        pytest.skip(f"the recording {golden.path} has no {name!r}")
    return name


def folders() -> list[Path]:
    """Where recordings are looked for, in order."""
    if "ARZOO_GOLDENS" in os.environ:
        return [Path(os.environ["ARZOO_GOLDENS"])]
    return [ROOT.parent / "shared" / "goldens", SMALL]


def find(name: str) -> Path | None:
    """The safetensors file of a recording, None where it is missing."""
    for folder in folders():
        path = folder / f"{name}.safetensors"
        if path.exists() and path.with_suffix(".json").exists():
            return path
    return None


def load(name: str) -> Golden:
    """Tensors and settings of a recording; skips the calling test when it is missing."""
    path = find(name)
    if path is None:
        pytest.skip(f"{name}.safetensors and {name}.json not found in {' or '.join(map(str, folders()))}")
    tensors, text = _read(path)
    # Converted modules share memory with the tensors they are made of: what a test does to them must stay its own.
    return Golden({name: value.clone() for name, value in tensors.items()}, json.loads(text), path)


@functools.cache
def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    return load_file(path), path.with_suffix(".json").read_text(encoding="utf-8")


def assert_close(name: str, got: Tensor, want: Tensor, tolerance: float = TOLERANCE) -> None:
    """Fail unless every element is within `tolerance` times the largest recorded absolute value.

    Args:
        name: What is compared, for the message.
        got: Our tensor.
        want: The recorded one, of the same shape.
        tolerance: Largest allowed error relative to the largest absolute value of `want`.
    """
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, recorded {tuple(want.shape)}"
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    assert want.isfinite().all(), f"{name}: the recording itself is not finite"
    error = (got - want).abs().max().item()
    scale = want.abs().max().item()
    # Written as `within`, not as `error > limit`: every comparison with NaN is false.
    within = error <= tolerance * scale
    assert within, f"{name}: largest error {error:.3g} at scale {scale:.3g}, allowed {tolerance:g} of it"


def assert_equal(name: str, got: Tensor, want: Tensor) -> None:
    """Fail unless shapes and all values (tokens, codes, masks) are the same."""
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, recorded {tuple(want.shape)}"
    wrong = int((got.cpu() != want.cpu()).sum())
    assert wrong == 0, f"{name}: {wrong} of {want.numel()} values differ"
