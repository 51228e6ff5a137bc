"""The environment of a run: device, precision, threads, seeds of samples, cache folders, versions for the record.

Torch is imported inside the functions that need it, so that the command line starts fast.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from arzoo.base.errors import ArzooError, UnknownName, UsageError
from arzoo.base.paths import expanded
from arzoo.version import __version__

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""Precision of a network; "int8" is only a storage format of weights on a CPU, with no torch type for computing."""
addresses: list[str] = []
"""Addresses that this process has contacted, oldest first; every download adds one, and `run.json` records them."""

_RECORDED = ("torch", "numpy", "safetensors", "pillow", "timm", "accelerate", "torchmetrics")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device to compute on.

    Args:
        name: "auto" (an accelerator if there is one), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ArzooError: The device does not exist on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnknownName("device", name, ["auto", "cpu", "cuda", "mps"]) from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        existing = ", ".join(f"{kind} ({count})" for kind, count in counts.items() if count)
        raise ArzooError(
            f"device {name!r} is not on this machine. It has: {existing}. Leave the device at 'auto'."
        )
    return device


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products and convolutions in float32, whatever the process allows elsewhere (TF32, bfloat16)."""
    import torch

    if not hasattr(torch.backends, "fp32_precision"):  # torch before 2.9 has one switch for products
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    # Reading the older switches raises after the newer ones have been used, so only the newer ones are used here.
    backends: Any = torch.backends
    switches = backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv
    values = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(switches, values, strict=True):
            switch.fp32_precision = value


def choose_dtype(precision: str) -> torch.dtype:
    """Return the torch type of a precision.

    Raises:
        UnknownName: The precision is not fp32, bf16 or fp16.
    """
    import torch

    table = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in table:
        raise UnknownName("precision", precision, table)
    return table[precision]


def set_threads(count: int) -> None:
    """Set the number of CPU threads; 0 leaves it as it is.

    Raises:
        UsageError: The number is negative.
    """
    import torch

    if count < 0:
        raise UsageError(f"threads must be 0 (leave as it is) or more, got {count}")
    if count:
        torch.set_num_threads(count)


def sample_seed(seed: int, index: int) -> int:
    """Compute the seed of one sample of a request, so that a picture depends neither on the batch nor its neighbors.

    Args:
        seed: Seed of the request.
        index: Number of the sample in the request, from 0.

    Returns:
        63 bits of the sha256 of both numbers.
    """
    digest = hashlib.sha256(f"{int(seed)}:{int(index)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def commit() -> str | None:
    """Return the git commit of this checkout, with "+" if files were changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # Without optional locks, `status` refreshes no index, whose lock would stay behind if the time limit ended it.
    git = ["git", "--no-optional-locks", "-C", str(root), "-c", "core.fsmonitor=false"]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def versions() -> dict[str, str | None]:
    """Return versions for the record of a result: this library, its commit, Python, main packages and platform."""
    record: dict[str, str | None] = {"arzoo": __version__, "commit": commit()}
    record |= {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    for name in _RECORDED:
        try:
            record[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            record[name] = None
    return record


def cache_folder() -> Path:
    """Return the folder of generated data sets and codes: `ARZOO_CACHE`, or `arzoo` in the user's cache folder.

    For a user without a home, as in some containers, it is a temporary folder, with a warning.
    """
    return _cache()[0]


def cache_remedy() -> str:
    """Return a sentence for messages: where the cache is, why, and how to move it."""
    folder, reason = _cache()
    return f"The cache is {folder} ({reason}); ARZOO_CACHE names another folder."


@contextmanager
def explain_cache() -> Iterator[None]:
    """Turn a failure to read or write in the cache into an error that says why the folder is used.

    Raises:
        ArzooError: The cache, or a folder of named checkpoints, cannot be used.
    """
    try:
        yield
    except OSError as error:
        place = Path(error.filename) if isinstance(error.filename, str) else cache_folder()
        if not any(
            folder in (place, *place.parents) or place in folder.parents
            for folder in (cache_folder(), store_folder())
        ):
            raise
        remedy = cache_remedy()
        if os.environ.get("ARZOO_HOME"):
            remedy += f" Named checkpoints are in {store_folder()} (ARZOO_HOME)."
        raise ArzooError(f"cannot use {place}: {error.strerror or error}. {remedy}") from error


def _cache() -> tuple[Path, str]:
    """The cache folder, and why it is used."""
    if os.environ.get("ARZOO_CACHE"):
        return Path(expanded(os.environ["ARZOO_CACHE"])), "from ARZOO_CACHE"
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "arzoo", "from XDG_CACHE_HOME"
    try:
        old = Path.home() / ".cache" / "arzoo"  # of version 0.1, on every system
        usual = platformdirs.user_cache_path("arzoo", appauthor=False)
        return (old if old.is_dir() else usual), "in the user's home"
    except RuntimeError:
        user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
        folder = Path(tempfile.gettempdir()) / f"arzoo{user}"
        warnings.warn(
            f"this user has no home folder: the cache is {folder}, which may not last. ARZOO_CACHE names another one.",
            stacklevel=2,
        )
        return folder, "as this user has no home folder"


def store_folder() -> Path:
    """Return the folder of the user's named checkpoints: `ARZOO_HOME`, or `checkpoints` in the cache folder."""
    if os.environ.get("ARZOO_HOME"):
        return Path(expanded(os.environ["ARZOO_HOME"]))
    return cache_folder() / "checkpoints"


def hardware(device: torch.device | None = None, processes: int = 1) -> str:
    """Describe the hardware of a run for its record: accelerators if there are any, processor, cores and threads.

    Args:
        device: Device of this process; by default the one that `choose_device` returns.
        processes: Number of processes, each with its own accelerator.
    """
    import torch

    device = device or choose_device()
    parts = [f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads per process"]
    if device.type != "cpu":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        parts.insert(0, f"{processes} x {name}")
    elif processes > 1:
        parts.append(f"{processes} processes")
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
