"""`arzoo doctor`: is everything in place?"""

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

OPTIONAL = {
    "text": "transformers",
    "logs": "tensorboard",
}


@dataclass(kw_only=True)
class Doctor:
    """Check this installation: versions, devices, optional parts, caches, shipped checkpoints, and a self-test."""

    fast: bool = False
    """Leave out the verification of checkpoints and the self-test."""

    examples: ClassVar = ("arzoo doctor", "arzoo doctor --json")

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Findings; the last one, `problems`, is empty when all is well."""
        from arzoo.base import runtime

        problems: list[str] = []
        found: dict[str, Any] = {
            "versions": runtime.versions(),
            "devices": _devices(problems),
            "optional parts": _optional(problems, load=not self.fast),
            "cache": _cache(runtime.cache_folder(), problems),
            "named checkpoints": _cache(runtime.store_folder(), problems),
            "checkpoints": _checkpoints(problems, verify=not self.fast),
        }
        if not self.fast:
            found["self-test"] = _self_test(problems)
        found["problems"] = problems
        return found

    def show(self, document: dict[str, Any]) -> None:
        """Sections."""
        for title, facts in document.items():
            if isinstance(facts, dict):
                print(f"{title}\n{table([('  ' + key, value) for key, value in facts.items()])}\n")
        problems = document["problems"]
        print("all is well" if not problems else "problems\n" + "\n".join(f"  {text}" for text in problems))


def _devices(problems: list[str]) -> dict[str, str]:
    """What there is, each asked for a sum."""
    import os

    import torch

    found = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, fp32 and bf16"}
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        precisions = "fp32, fp16 and bf16" if torch.cuda.is_bf16_supported() else "fp32 and fp16"
        found[f"cuda:{i}"] = f"{facts.name}, {human_bytes(facts.total_memory)}, {precisions}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU, fp32 and fp16"
    for name in found:
        try:
            assert float(torch.ones(8, device=name).sum()) == 8
        except Exception as error:  # drivers fail in many ways
            problems.append(f"{name} does not compute: {error}")
    return found


def _optional(problems: list[str], load: bool) -> dict[str, str]:
    """Packages of the extras; what is there is imported, which takes seconds."""
    from importlib.util import find_spec

    found = {}
    for extra, module in OPTIONAL.items():
        state = "installed" if find_spec(module) else f"absent; pip install 'arzoo[{extra}]'"
        if load and state == "installed":
            try:
                importlib.import_module(module)
                state = "works"
            except Exception as error:  # a broken installation fails in many ways
                state = "broken"
                problems.append(f"{module} of arzoo[{extra}] cannot be imported: {error}. Install it again.")
        found[f"{extra} ({module})"] = state
    return found


def _cache(folder: Path, problems: list[str]) -> dict[str, str]:
    """What is in a folder of the user's, in which a file is written and removed."""
    from arzoo.base import runtime

    there = next(path for path in (folder, *folder.parents) if path.exists())
    facts = {"folder": str(folder), "content": "nothing yet"}
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        files = [path for path in folder.rglob("*") if path.is_file()]
        if files:
            size = sum(path.stat().st_size for path in files)
            facts["content"] = f"{len(files)} files, {human_bytes(size)}"
    except OSError as error:
        facts["content"] = "cannot be used"
        problems.append(f"cannot write into {there}: {error.strerror or error}. {runtime.cache_remedy()}")
    return facts


def _checkpoints(problems: list[str], verify: bool) -> dict[str, str]:
    from arzoo.checkpoints.folder import load_parts
    from arzoo.checkpoints.names import bundled

    found = {}
    for name in bundled():
        try:
            if verify:
                load_parts(name)
            found[name] = "whole" if verify else "present"
        except ArzooError as error:
            found[name] = "damaged"
            problems.append(str(error))
    if not found:
        found["bundled"] = "none"
    return found


def _self_test(problems: list[str]) -> dict[str, str]:
    """Draw a canvas with a small network of fresh weights, twice, and compare."""
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
