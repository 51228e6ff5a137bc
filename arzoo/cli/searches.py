"""Searches of `arzoo search` after its options are checked: what is searched for, by which method and verifiers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from arzoo.base import runtime
from arzoo.base.errors import UnknownName
from arzoo.base.parser import assignments, typed
from arzoo.cli.facts import about, file_name, settings_of
from arzoo.cli.judges import OF_CLASSES, OF_PROMPTS, Roles
from arzoo.cli.knobs import misuse
from arzoo.cli.loading import Loaded, load
from arzoo.cli.methods import USUAL, algorithm
from arzoo.cli.pictures import read_picture
from arzoo.cli.subjects import request
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
class Searches:
    """What a command searches for.

    Attributes:
        command: The command.
        loaded: Its generator.
        conditions: Arguments of the generator's methods by name, a row per picture.
        titles: Class or prompt of every picture.
        subjects: The same for verifiers.
        seeds: Seeds of the pictures.
        verifiers: Who steers and who judges.
        algorithm: How to search.
        budget: The most to spend per picture.
        settings: Settings of all pictures, as plain data.
    """

    command: Search
    loaded: Loaded
    conditions: dict[str, Any]
    titles: list[str]
    subjects: list[Subject]
    seeds: list[int]
    verifiers: Roles
    algorithm: Algorithm
    budget: Budget
    settings: dict[str, Any]

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
        model = loaded.model
        conditions, titles = request(command, model)
        method = command.method or USUAL
        with misuse():
            way = algorithm(command, method, len(model.plan()))
        reference = None
        if command.reference is not None:
            reference = read_picture(command.reference, *model.tokenizer.image_size)
        subjects = [
            subject_of(model, **one_of(conditions, i), reference=reference) for i in range(command.count)
        ]
        usual = (OF_PROMPTS if takes_text(model.backbone) else OF_CLASSES) if any(titles) else None
        verifiers = Roles.of(command.verifier, command.judge, usual, subjects, command.rescore)
        settings = settings_of(command, model)
        settings |= {
            "method": method,
            "verifier": [each.text for each in verifiers.steering],
            "judge": verifiers.judge.text,
            "rescore": command.rescore,
        }
        seeds = seeds or [runtime.sample_seed(command.seed, i) for i in range(command.count)]
        return Searches(
            command, loaded, conditions, titles, subjects, seeds, verifiers, way, budget, settings
        )

    def cond(self, i: int) -> Cond:
        """Return the condition of picture i, one row."""
        return condition(self.loaded.model, **one_of(self.conditions, i))

    def facts(self, i: int) -> dict[str, Any]:
        """Return the settings that the file of picture i records."""
        return about(self.command, self.titles, self.seeds, self.settings, i)

    def identity(self, i: int) -> dict[str, Any]:
        """Return what tells picture i from the others of the command."""
        return {name: value for name, value in self.facts(i).items() if name in IDENTITY}

    def name(self, i: int) -> str:
        """Return the file name of picture i; clips are written as WebP, which loses nothing."""
        suffix = ".png" if self.loaded.model.tokenizer.frames == 1 else ".webp"
        return file_name(i, self.titles[i], self.command.seed, suffix)

    def tree(self, i: int) -> str:
        """Return the path of the picture of the search for picture i."""
        return f"{TREES}/{Path(self.name(i)).stem}.png"


def one_of(conditions: dict[str, Any], i: int) -> dict[str, Any]:
    """Return the arguments of the generator's methods for picture i alone."""
    return {name: rows[i : i + 1] for name, rows in conditions.items()}


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
