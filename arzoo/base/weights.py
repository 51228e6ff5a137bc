"""Storage of weights: floats in 8, 16 or 32 bits, which round once, when they are first stored.

In 8 bits a row (the weights of one output, or one embedding) is stored as integers from -127 to 127 times one scale. A
scale has 16 significant bits, so float32 holds each product exactly, and storing weights that were read gives the same
file. Next to the int8 tensor `name` lies `name::scale`, float32, one number per row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.files import damaged, file_sha256
from arzoo.base.finite import refuse_not_finite

Bits = Literal[8, 16, 32]
WEIGHTS = "model.safetensors"
SCALE = "::scale"
"""End of the name of a tensor of scales; no name of a weight may end so."""

_LARGEST = 127
_NUMBERS, _ROW = 8192, 32
"""Size of the smallest tensor, and length of the shortest row, that are stored in 8 bits."""
_SCALES = 2.0**-100, 2.0**100
"""Smallest and largest scale; at the ends of float32 products would be neither exact nor finite."""


def to_storage(state: Mapping[str, Tensor], bits: Bits, precise: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return tensors to write, contiguous copies on the CPU.

    With 8 bits matrices, kernels and embeddings become int8; small tensors and those of one row become float16. With 16
    bits floats become float16, except tensors that only 8 bits hold exactly: those read from 8 bits stay in 8 bits. A
    tensor out of the range of float16 stays as it is, and so do integers.

    Args:
        state: Tensors by name.
        bits: Largest number of bits per float, where the values fit.
        precise: Starts of names of weights that get at least 16 bits.

    Raises:
        ArzooError: A name ends in `SCALE`, a value is not finite, or `bits` is none of 8, 16 and 32.
    """
    if bits not in (8, 16, 32):
        raise ArzooError(f"weights are stored in 8, 16 or 32 bits, got {bits!r}")
    refuse_not_finite(state, "the weights to be stored", "Store those of an earlier step.")
    stored = {}
    for name, value in state.items():
        if name.endswith(SCALE):
            raise ArzooError(
                f"weight {name!r} cannot be stored: names ending in {SCALE!r} are those of scales. Rename it."
            )
        value = value.detach().cpu()
        packed = _packed(value, 16 if bits == 8 and name.startswith(precise) else bits)
        if packed is None:
            stored[name] = _narrow(value, bits).clone(memory_format=torch.contiguous_format)
        else:
            stored[name], stored[name + SCALE] = packed
    return stored


def from_storage(stored: Mapping[str, Tensor], where: str | Path) -> dict[str, Tensor]:
    """Return the weights that stored tensors represent: 8-bit ones as float32, all others unchanged.

    Args:
        stored: Content of a file.
        where: Name of the file in messages.

    Raises:
        ArzooError: Scales belong to no int8 tensor, are not one float32 number per row, or out of range.
    """
    state = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            _check_scales(value, stored.get(name.removesuffix(SCALE)), name, where)
        elif name + SCALE in stored:
            state[name] = value.float() * _column(stored[name + SCALE], value)
        else:
            state[name] = value
    return state


def storage_bits(stored: Mapping[str, Tensor]) -> int | None:
    """Return the number of bits in which most floats are stored, None if there are no floats."""
    counts: Counter[int] = Counter()
    for name, value in stored.items():
        if name + SCALE in stored or (value.is_floating_point() and not name.endswith(SCALE)):
            counts[8 * value.element_size()] += value.numel()
    return counts.most_common(1)[0][0] if counts else None


def keeps(state: Mapping[str, Tensor], bits: Bits) -> bool:
    """Return whether storage in so many bits preserves every weight exactly."""
    restored = from_storage(to_storage(state, bits), "these weights")
    return all(
        torch.equal(restored[name].to(value.dtype), value.detach().cpu())
        for name, value in state.items()
        if value.is_floating_point()
    )


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read the weights in a file.

    Args:
        path: The file.
        sha256: Hash of the file in the index.

    Raises:
        ArzooError: The file cannot be read, is not the one in the index, or is damaged.
    """
    try:
        file_hash = file_sha256(path)
    except OSError as error:
        raise ArzooError(
            f"cannot read {path}: {error.strerror}. Copy the whole checkpoint folder again."
        ) from error
    if file_hash != sha256:
        raise ArzooError(
            f"{path} is damaged or was exchanged: its sha256 is {file_hash[:12]}, the index says {sha256[:12]}. "
            "Copy or download the checkpoint again."
        )
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ArzooError(f"{path} is not a safetensors file ({error}). Copy or download it again.") from error
    return from_storage(stored, path)


def refuse_misfit(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kinds of weights with those of a module, which may be on the meta device.

    Raises:
        RuntimeError: A weight is missing, unexpected, or of another shape or kind.
    """
    expected = {name: _kind(value) for name, value in module.state_dict().items()}
    given = {name: _kind(value) for name, value in state.items()}
    for name in sorted(expected.keys() | given.keys()):
        if expected.get(name) != given.get(name):
            fault = f"weight {name!r} is {given.get(name, 'absent')}, not {expected.get(name, 'there')}"
            if name in state and state[name].dtype == torch.int8:
                fault += f", and has no scales {name + SCALE!r}"
            raise RuntimeError(fault)


def _packed(value: Tensor, bits: Bits) -> tuple[Tensor, Tensor] | None:
    """Return integers and scales of a tensor, None if it is not to be stored in 8 bits."""
    few = value.ndim < 2 or value.numel() < _NUMBERS or value.shape[0] < 2 or value[0].numel() < _ROW
    if bits == 32 or few or not value.is_floating_point():
        return None
    value = value.float()
    largest = value.flatten(1).abs().amax(1)
    scales = torch.where(largest == 0, 1, _short(largest / _LARGEST))
    if not bool(_usable(scales).all()):
        return None
    numbers = (value / _column(scales, value)).round().clamp(-_LARGEST, _LARGEST).to(torch.int8)
    again = numbers.float() * _column(scales, value)
    if bits == 16 and (_same(value.half().float(), value) or not _same(again, value)):
        return None
    return numbers.contiguous(), scales


def _short(scales: Tensor) -> Tensor:
    """Round scales to 16 significant bits, in float32."""
    mantissa, exponent = torch.frexp(scales)
    return torch.ldexp((mantissa * 2**16).round() / 2**16, exponent)


def _usable(scales: Tensor) -> Tensor:
    return (scales >= _SCALES[0]) & (scales <= _SCALES[1])  # neither holds for NaN


def _narrow(value: Tensor, bits: Bits) -> Tensor:
    """Convert a float tensor to 16 bits if requested and possible."""
    if bits == 32 or not value.is_floating_point():
        return value
    too_large = value.numel() and bool(value.abs().max() > torch.finfo(torch.float16).max)
    return value if too_large else value.half()


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether tensors are equal bit for bit: -0 is not 0, as for hashes."""
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def _column(scales: Tensor, value: Tensor) -> Tensor:
    """Reshape scales to multiply rows."""
    return scales.view(-1, *[1] * (value.ndim - 1))


def _check_scales(scales: Tensor, value: Tensor | None, name: str, where: str | Path) -> None:
    wrong = ""
    if value is None or value.dtype != torch.int8 or value.ndim < 2:
        kind = "absent" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
        wrong = f"weight {name.removesuffix(SCALE)!r} is {kind}, not int8 rows"
    elif scales.dtype != torch.float32 or scales.shape != value.shape[:1]:
        wrong = f"they are {scales.dtype} of shape {tuple(scales.shape)}, not float32 of shape {tuple(value.shape[:1])}"
    elif not bool(_usable(scales).all()):
        wrong = f"one is {scales[~_usable(scales)][0]:g}, not from {_SCALES[0]:g} to {_SCALES[1]:g}"
    if wrong:
        raise damaged(where, f"scales {name!r}: {wrong}")


def _kind(value: Tensor) -> tuple[Any, ...]:
    """Return shape and type of a tensor; all floats count as one type, their bits are a matter of storage."""
    return (*value.shape, "float" if value.is_floating_point() else value.dtype)
