"""Where and how code runs: device, precision, threads, seeds of samples, versions for the record.

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
"""How a network computes; "int8" says how a CPU keeps its weights and has no type of torch (see `choose_dtype`)."""
network_calls: list[str] = []
"""Addresses this process asked something of, oldest first; every download adds one and `run.json` has them."""

_RECORDED = ("torch", "numpy", "safetensors", "pillow", "timm", "accelerate", "torchmetrics")


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on.

    Args:
        name: "auto" (an accelerator if there is one), "cpu", "cuda", "cuda:1", "mps".

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
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= found.get(device.type, 0):
        has = ", ".join(f"{kind} ({count})" for kind, count in found.items() if count)
        raise ArzooError(
            f"device {name!r} is not on this machine. It has: {has}. Leave the device at 'auto'."
        )
    return device


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products and convolutions in float32, whatever the process allows elsewhere (TF32, bfloat16)."""
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
    # The older switches refuse to be read where somebody used the newer ones, so those are used here alone.
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
    """Torch's type of a precision.

    Raises:
        UnknownName: The precision is none of fp32, bf16, fp16.
    """
    import torch

    table = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in table:
        raise UnknownName("precision", precision, table)
    return table[precision]


def set_threads(count: int) -> None:
    """Use this many CPU threads; 0 leaves the number as it is.

    Raises:
        UsageError: The number is negative.
    """
    import torch

    if count < 0:
        raise UsageError(f"threads must be 0 (leave as it is) or more, got {count}")
    if count:
        torch.set_num_threads(count)


def sample_seed(seed: int, index: int) -> int:
    """Seed of one sample of a request, so that a picture depends neither on the batch size nor on its neighbours.

    Args:
        seed: Seed of the request.
        index: Number of the sample in the request.

    Returns:
        63 bits of the sha256 of both numbers.
    """
    digest = hashlib.sha256(f"{int(seed)}:{int(index)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def commit() -> str | None:
    """Git commit of the checkout this library runs from, with "+" when files were changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "-c", "core.fsmonitor=false"]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def versions() -> dict[str, str | None]:
    """What produced a result: versions of this library, Python and the packages that matter, platform and commit."""
    found: dict[str, str | None] = {"arzoo": __version__, "commit": commit()}
    found |= {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def cache_folder() -> Path:
    """Where generated data sets and codes are kept: `ARZOO_CACHE`, or `arzoo` in the user's cache folder.

    A user without a home, as in some containers, has a folder for temporary files, which is said once.
    """
    return _cache()[0]


def cache_remedy() -> str:
    """Where the cache is, who says so, and how to have it elsewhere."""
    folder, reason = _cache()
    return f"The cache is {folder} ({reason}); ARZOO_CACHE names another folder."


@contextmanager
def explain_cache() -> Iterator[None]:
    """Turn a failure to read or write in the cache into a message that says where the folder comes from.

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
    """The cache folder, and why it is that one."""
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
    """Where named checkpoints of this user are kept: `ARZOO_HOME`, or `checkpoints` in the cache folder."""
    if os.environ.get("ARZOO_HOME"):
        return Path(expanded(os.environ["ARZOO_HOME"]))
    return cache_folder() / "checkpoints"


def hardware(device: torch.device | None = None, processes: int = 1) -> str:
    """What a run computes on, for its record: accelerators if there are any, processor, cores and threads.

    Args:
        device: Where this process computes; what `choose_device` finds by default.
        processes: How many of them there are, each with an accelerator of its own.
    """
    import torch

    device = device or choose_device()
    parts = [f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads a process"]
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
