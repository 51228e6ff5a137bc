"""Searches of `arzoo search` after its options are checked: what is searched for, by which method and verifiers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from arzoo.base.errors import UnknownName
from arzoo.base.parser import assignments, typed
from arzoo.cli.facts import Requested, file_name, read_request, settings_of
from arzoo.cli.judges import OF_CLASSES, OF_PROMPTS, Roles
from arzoo.cli.knobs import misuse
from arzoo.cli.loading import load
from arzoo.cli.methods import USUAL, algorithm
from arzoo.cli.pictures import read_picture
from arzoo.core.condition import Cond
from arzoo.generation.prompts import takes_text
from arzoo.generation.request import condition
from arzoo.generation.search import subject_of
from arzoo.samplers.search.algorithm import Search as Algorithm
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.verifiers.base import Subject

if TYPE_CHECKING:
    from arzoo.cli.search import Search

IDENTITY = ("index", "class", "prompt", "sample_seed")
"""What tells the pictures of a command apart."""
TREES = "trees"
"""Folder of pictures of searches."""


@dataclass(frozen=True)
class Searches(Requested):
    """What a command searches for, and how.

    Attributes:
        subjects: Class or prompt of every picture, for verifiers.
        verifiers: Who steers and who judges.
        algorithm: How to search.
        budget: The most to spend per picture.
    """

    command: Search
    subjects: list[Subject]
    verifiers: Roles
    algorithm: Algorithm
    budget: Budget

    @staticmethod
    def of(command: Search, seeds: list[int] | None) -> Searches:
        """Load the generator and check the command.

        Args:
            command: The command.
            seeds: Seeds of the pictures; by default they follow from the seed of the command.

        Raises:
            UsageError: The model, the method or a verifier does not take an option.
            ArzooError: As `Generator.load`.
        """
        budget = budget_of(command.budget)
        loaded = load(command)
        model, asked = loaded.model, read_request(command, loaded, seeds)
        with misuse():
            way = algorithm(command, command.method or USUAL, len(model.plan()))
        reference = None
        if command.reference is not None:
            reference = read_picture(command.reference, *model.image_size)
        subjects = [subject_of(model, **asked.rows([i]), reference=reference) for i in range(command.count)]
        usual = (OF_PROMPTS if takes_text(model.backbone) else OF_CLASSES) if any(asked.titles) else None
        verifiers = Roles.of(command.verifier, command.judge, usual, subjects, command.rescore, way.absolute)
        return Searches(
            command, loaded, asked.conditions, asked.titles, asked.seeds, subjects, verifiers, way, budget
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings of all pictures, as plain data, with those of the search."""
        return settings_of(self.command, self.loaded.model) | {
            "method": self.command.method or USUAL,
            "verifier": [each.text for each in self.verifiers.steering],
            "judge": self.verifiers.judge.text,
            "rescore": self.command.rescore,
        }

    def cond(self, i: int) -> Cond:
        """Return the condition of picture i, one row."""
        return condition(self.loaded.model, **self.rows([i]))

    def identity(self, i: int) -> dict[str, Any]:
        """Return what tells picture i from the others of the command."""
        return {name: value for name, value in self.about(i).items() if name in IDENTITY}

    def name(self, i: int) -> str:
        """Return the file name of picture i; clips are written as WebP, which loses nothing."""
        suffix = ".png" if self.loaded.model.tokenizer.frames == 1 else ".webp"
        return file_name(i, self.titles[i], self.command.seed, suffix)

    def tree(self, i: int) -> str:
        """Return the path of the picture of the search for picture i."""
        return f"{TREES}/{Path(self.name(i)).stem}.png"


def budget_of(texts: tuple[str, ...]) -> Budget:
    """Return the budget that is typed as COUNT=MOST.

    Raises:
        UsageError: There is no such count, or a limit is no number above 0.
    """
    hints, limits = get_type_hints(Budget), {}
    with misuse():
        for name, text in assignments(texts, "--budget", "decodes=400").items():
            if name not in hints:
                raise UnknownName("count of --budget", name, hints)
            limits[name] = typed(text, hints[name], f"--budget {name}")
        return Budget(**limits)
