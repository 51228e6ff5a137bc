"""`arzoo doctor`: check the installation."""

from __future__ import annotations

import importlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from arzoo.base.console import human_bytes, table
from arzoo.base.errors import ArzooError
from arzoo.base.small_packages import SMALL_PACKAGES

OPTIONAL = {
    "text": "transformers",
    "logs": "tensorboard",
    "em": "skimage",
    "plots": "matplotlib",
    "demo": "gradio",
}


@dataclass(kw_only=True)
class Doctor:
    """Check this installation: versions, devices, optional parts, caches, shipped checkpoints, and a self-test."""

    fast: bool = False
    """Leave out the verification of checkpoints and the self-test."""

    examples: ClassVar = ("arzoo doctor", "arzoo doctor --json")

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Return the findings; the last one, `problems`, is empty if all is well."""
        from arzoo.base import runtime

        problems: list[str] = []
        findings: dict[str, Any] = {
            "versions": runtime.versions(),
            "devices": _devices(problems),
            "scans of Mamba": _scans(),
            "optional parts": _optional(problems, load=not self.fast),
            "cache": _cache(runtime.cache_folder(), problems),
            "named checkpoints": _cache(runtime.store_folder(), problems),
            "checkpoints": _checkpoints(problems, verify=not self.fast),
        }
        if not self.fast:
            findings["self-test"] = _self_test(problems)
        findings["problems"] = problems
        return findings

    def show(self, document: dict[str, Any]) -> None:
        """Print the findings in sections."""
        for title, facts in document.items():
            if isinstance(facts, dict):
                print(f"{title}\n{table([('  ' + key, value) for key, value in facts.items()])}\n")
        problems = document["problems"]
        print("all is well" if not problems else "problems\n" + "\n".join(f"  {text}" for text in problems))


def _devices(problems: list[str]) -> dict[str, str]:
    """Devices of this machine; each computes a sum."""
    import os

    import torch

    from arzoo.generation.kernels import bfloat_units

    kinds = "fp32 and bf16" if bfloat_units() else "fp32 (no instructions for bf16)"
    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {kinds}"}
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        precisions = "fp32, fp16 and bf16" if torch.cuda.is_bf16_supported() else "fp32 and fp16"
        devices[f"cuda:{i}"] = f"{facts.name}, {human_bytes(facts.total_memory)}, {precisions}"
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU, fp32 and fp16"
    for name in devices:
        try:
            assert float(torch.ones(8, device=name).sum()) == 8
        except Exception as error:  # drivers fail in many ways
            problems.append(f"{name} does not compute: {error}")
    return devices


def _scans() -> dict[str, str]:
    """What runs the scans of state-space models on each device: the kernels that work there, or PyTorch."""
    import torch

    from arzoo.models.common import scans

    facts = {}
    for device in ("cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))):
        paths = scans.paths(device)
        alike = len(set(paths.values())) == 1
        facts[device] = (
            paths["grouped_scan"] if alike else ", ".join(f"{k} {path}" for k, path in paths.items())
        )
    return facts


def _optional(problems: list[str], load: bool) -> dict[str, str]:
    """Packages of the extras; with `load` installed ones are imported, which takes seconds."""
    from importlib.util import find_spec

    packages = {}
    for extra, module in OPTIONAL.items():
        state = "installed" if find_spec(module) else f"absent; pip install 'arzoo[{extra}]'"
        if load and state == "installed":
            try:
                importlib.import_module(module)
                state = "works"
            except Exception as error:  # a broken installation fails in many ways
                state = "broken"
                problems.append(f"{module} of arzoo[{extra}] cannot be imported: {error}. Install it again.")
        packages[f"{extra} ({module})"] = state
    for module, package in SMALL_PACKAGES.items():
        packages[package.name] = "installed" if find_spec(module) else f"absent; {package.remedy}"
    return packages


def _cache(folder: Path, problems: list[str]) -> dict[str, str]:
    """Content of a folder of the user, after a file was written and removed in it."""
    from arzoo.base import runtime

    existing = next(path for path in (folder, *folder.parents) if path.exists())
    facts = {"folder": str(folder), "content": "nothing yet"}
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        files = [path for path in folder.rglob("*") if path.is_file()]
        if files:
            size = sum(path.stat().st_size for path in files)
            facts["content"] = f"{len(files)} files, {human_bytes(size)}"
    except OSError as error:
        facts["content"] = "cannot be used"
        problems.append(f"cannot write into {existing}: {error.strerror or error}. {runtime.cache_remedy()}")
    return facts


def _checkpoints(problems: list[str], verify: bool) -> dict[str, str]:
    from arzoo.checkpoints.folder import load_parts
    from arzoo.checkpoints.names import bundled

    states = {}
    for name in bundled():
        try:
            if verify:
                load_parts(name)
            states[name] = "whole" if verify else "present"
        except ArzooError as error:
            states[name] = "damaged"
            problems.append(str(error))
    if not states:
        states["bundled"] = "none"
    return states


def _self_test(problems: list[str]) -> dict[str, str]:
    """Draw a canvas twice with a small network of random weights, and compare."""
    import torch

    from arzoo.core.condition import Cond
    from arzoo.core.control import Control
    from arzoo.core.draws import Draws
    from arzoo.core.layout import Grid
    from arzoo.core.tokens import TokenSpec
    from arzoo.models.heads.categorical import CategoricalConfig
    from arzoo.models.llamagen.network import TransformerConfig
    from arzoo.samplers.loop import generate, start
    from arzoo.samplers.plans.shifted import raster

    sizes = {"width": 32, "depth": 1, "heads": 2, "vocab": 16, "classes": 2, "grid": (1, 4, 4)}
    backbone = TransformerConfig.from_dict(sizes).build().eval()
    model: Any = SimpleNamespace(backbone=backbone, heads=[CategoricalConfig(width=32, vocab=16).build()])

    def draw() -> torch.Tensor:
        tokens = TokenSpec(Grid(1, 4, 4), vocab=16).empty(2)
        cond = Cond(2, label=torch.tensor([0, 1]))
        run = start(model, raster(Grid(1, 4, 4)), cond, Control(guidance=2.0), tokens, Draws([0, 1]))
        for _ in generate(model, run):
            pass
        return run.tokens.values

    started = time.perf_counter()
    same = torch.equal(draw(), draw())
    if not same:
        problems.append("the self-test drew two different canvases from the same seeds")
    return {"two equal draws": f"{'yes' if same else 'no'}, {time.perf_counter() - started:.2f} s"}
