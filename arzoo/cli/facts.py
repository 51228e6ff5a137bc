"""What a picture file says of how it was drawn: its name and its settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from arzoo.checkpoints.folder import weights_sha256

if TYPE_CHECKING:
    from arzoo.cli.sampling import Sampling
    from arzoo.generation.generator import Generator

LONGEST_TITLE = 48


def file_name(i: int, title: str, seed: int, suffix: str = ".png") -> str:
    """Return the name of picture i, with a short form of its class or prompt in letters, digits and dashes."""
    words = re.sub(r"[^\w.-]+", "-", title)[:LONGEST_TITLE].strip("-.")
    return "_".join(filter(None, [f"{i:04d}", words, f"seed{seed}{suffix}"]))


def settings_of(command: Sampling, model: Generator) -> dict[str, Any]:
    """Return the settings shared by all pictures, as plain data."""
    facts: dict[str, Any] = {name: getattr(command, name) for name in command.RECORDED}
    facts |= {"plan": model.plan_name, "tokenizer": model.tokenizer_hash[:12]}
    if model.text is not None:
        facts["text_encoder"] = f"{model.text.name} {model.text.sha256[:12]}"
    facts["device"] = model.device.type
    facts["weights"] = weights_sha256(model.backbone)[:12]
    return facts | command.facts()


def about(
    command: Sampling, titles: list[str], seeds: list[int], settings: dict[str, Any], i: int
) -> dict[str, Any]:
    """Return the settings of picture i."""
    what = "prompt" if command.prompts else "class"
    return {**settings, what: titles[i], "index": i, "sample_seed": seeds[i]}
