"""Pictures of a verb that draws: what each is to show, and what its file says of how it was drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from arzoo.base import runtime
from arzoo.checkpoints.folder import weights_sha256
from arzoo.cli.subjects import request

if TYPE_CHECKING:
    from arzoo.cli.loading import Loaded
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


@dataclass(frozen=True)
class Requested:
    """What a command is to draw.

    Attributes:
        command: The command.
        loaded: Its generator.
        conditions: Arguments of the generator's methods by name, a list with an entry per picture.
        titles: Class or prompt of every picture.
        seeds: Seeds of the pictures.
    """

    command: Sampling
    loaded: Loaded
    conditions: dict[str, Any]
    titles: list[str]
    seeds: list[int]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings of all pictures, as plain data."""
        return settings_of(self.command, self.loaded.model)

    def rows(self, numbers: Iterable[int]) -> dict[str, Any]:
        """Return the arguments of the generator's methods for some of the pictures."""
        return {name: [values[i] for i in numbers] for name, values in self.conditions.items()}

    def about(self, i: int) -> dict[str, Any]:
        """Return the settings that the file of picture i records."""
        what = "prompt" if self.command.prompts else "class"
        return {**self.settings, what: self.titles[i], "index": i, "sample_seed": self.seeds[i]}


def read_request(command: Sampling, loaded: Loaded, seeds: list[int] | None) -> Requested:
    """Return what a command is to draw.

    Args:
        command: The command.
        loaded: Its generator.
        seeds: Seeds of the pictures; by default they follow from the seed of the command.

    Raises:
        UsageError: The model does not take such conditions.
    """
    conditions, titles = request(command, loaded.model)
    seeds = seeds or [runtime.sample_seed(command.seed, i) for i in range(command.count)]
    return Requested(command, loaded, conditions, titles, seeds)
