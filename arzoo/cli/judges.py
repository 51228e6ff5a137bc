"""Verifiers of `arzoo search`: those that steer the search, and the other one that judges its results."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arzoo.base import registry
from arzoo.base.errors import UnknownName, UsageError
from arzoo.base.parser import named, typed
from arzoo.cli.knobs import misuse
from arzoo.generation.verifiers.catalogue import open_verifier, verifier_class
from arzoo.samplers.search.algorithm import Search as Algorithm
from arzoo.samplers.search.rescored import Rescored
from arzoo.samplers.verifiers.ensemble import Ensemble, RankEnsemble

if TYPE_CHECKING:
    from arzoo.samplers.verifiers.base import Subject, Verifier


@dataclass(frozen=True)
class Usual:
    """Verifiers by default.

    Attributes:
        steering: What steers; the first one always, the others if they know all that is drawn.
        judges: What judges: the first that knows all that is drawn, else the last.
    """

    steering: tuple[str, ...]
    judges: tuple[str, ...]


# What judges looks with another network than what steers, except for prompts that are no caption of the data.
OF_PROMPTS = Usual(("image_text", "class_probe:net=effnet_lite0"), ("class_probe", "image_text:seed=1"))
OF_CLASSES = Usual(("class_probe",), ("class_probe:net=effnet_lite0",))


@dataclass(frozen=True)
class Choice:
    """A verifier as it is typed: "image_text" or "image_text:seed=1,text=minilm".

    Attributes:
        text: As typed.
        name: Registered name.
        settings: All arguments of its constructor but the subject, defaults included.
        typed: Those that were typed.
    """

    text: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    typed: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(text: str, option: str) -> Choice:
        """Parse a text.

        Args:
            text: The text.
            option: The option that takes it, for messages.

        Raises:
            UsageError: There is no such verifier, or it has no such setting.
        """
        name, settings = named(text, option, "image_text:seed=1")
        with misuse():
            kind = verifier_class(name)
            hints, chosen = registry.arguments("verifier", name), {}
            _, *parameters = inspect.signature(kind).parameters.values()  # without the subject
            defaults = {parameter.name: parameter.default for parameter in parameters}
            for key, value in settings.items():
                if key not in defaults:
                    raise UnknownName(f"setting of verifier {name!r}", key, defaults)
                chosen[key] = typed(value, hints[key], f"{option} {name}:{key}")
        return Choice(text, name, defaults | chosen, chosen)

    def same(self, other: Choice) -> bool:
        """Return whether another one is the same verifier with the same settings."""
        return (self.name, self.settings) == (other.name, other.settings)

    def knows(self, subjects: Sequence[Subject]) -> bool:
        """Return whether it knows all subjects; some know only the words of their data."""
        try:
            for subject in {(each.prompt, each.label): each for each in subjects}.values():
                self.open(subject)
        except UnknownName:
            return False
        return True

    def open(self, subject: Subject) -> Verifier:
        """Open it for what is to be drawn; errors as those of `open_verifier`."""
        return open_verifier(self.name, subject, **self.typed)


@dataclass(frozen=True)
class Roles:
    """Who steers, and who judges.

    Attributes:
        steering: One, or several of which the search follows the mean rank.
        judge: Scores the results; the search never sees its scores.
        rescore: Chooses among the results of the search; None leaves that to what steers.
    """

    steering: tuple[Choice, ...]
    judge: Choice
    rescore: Choice | None = None

    @staticmethod
    def of(
        steering: Sequence[str],
        judge: str | None,
        usual: Usual | None,
        subjects: Sequence[Subject],
        rescore: str | None = None,
        absolute: bool = False,
    ) -> Roles:
        """Read the options `verifier`, `rescore` and `judge`.

        Args:
            steering: As typed, none for the usual ones.
            judge: As typed; None for the first usual one that does not steer and knows all subjects.
            usual: Those by default; None if there are none.
            subjects: What is to be drawn.
            rescore: As typed.
            absolute: The method follows no mean rank; of the usual ones, the first steers alone.

        Raises:
            UsageError: One does not exist, the judge steers as well or looks at no pictures, nothing is chosen, or
                several are to steer a method that follows no mean rank.
            ArzooError: As `open_verifier`.
        """
        if usual is None:
            usual = Usual((), ())
        if not usual.steering and not (steering and judge):
            raise UsageError(
                "this model draws neither classes nor prompts, so say what to look for: --verifier NAME --judge NAME "
                "(see `arzoo verifiers ls`)"
            )
        chosen = tuple(Choice.read(text, "--verifier") for text in steering or usual.steering)
        if not steering:
            more = () if absolute else chosen[1:]
            chosen = (chosen[0], *(each for each in more if each.knows(subjects)))
        if absolute and len(chosen) > 1:
            raise UsageError(
                f"--verifier {' '.join(each.text for each in chosen)}: several verifiers steer by their mean rank "
                "among the candidates of a comparison, and this method needs scores with a scale of their own: "
                "give one, or use --method best_of_n, beam or lookahead"
            )
        candidates = [judge] if judge else [*usual.judges, usual.steering[0]]
        others = [Choice.read(text, "--judge") for text in candidates]
        last = None if rescore is None else Choice.read(rescore, "--rescore")
        used = chosen if last is None else (*chosen, last)
        fair = [other for other in others if not any(other.same(each) for each in used)]
        if not fair:
            seed = f", or other settings such as --judge {others[0].name}:seed=1" * (
                "seed" in others[0].settings
            )
            raise UsageError(
                f"--judge {others[0].text} is the verifier that steers: a search raises its score by itself, so it "
                f"says nothing of the pictures. Name another one (see `arzoo verifiers ls`){seed}"
            )
        best = fair[0] if judge else next((each for each in fair[:-1] if each.knows(subjects)), fair[-1])
        kind = verifier_class(best.name)
        if not kind.pictures or issubclass(kind, Ensemble):
            why = "ranks candidates among each other" if kind.pictures else "looks at no pictures"
            raise UsageError(
                f"--judge {best.text} {why}, so it cannot compare a search with plain drawing; name one that gives "
                "every picture a score, see `arzoo verifiers ls`"
            )
        return Roles(chosen, best, last)

    def way(self, algorithm: Algorithm, subject: Subject) -> tuple[Algorithm, Verifier, dict[str, Verifier]]:
        """Return how to search and by which verifier, and all verifiers that are not the judge by name.

        Args:
            algorithm: How to search, without rescoring.
            subject: What is to be drawn.
        """
        steering, members = self.open(subject)
        if self.rescore is None:
            return algorithm, steering, members
        last = self.rescore.open(subject)
        return Rescored(algorithm, steering), last, members | {self.rescore.text: last}

    def open(self, subject: Subject) -> tuple[Verifier, dict[str, Verifier]]:
        """Return what steers as one verifier, and its members by name, for what is to be drawn."""
        opened = {each.text: each.open(subject) for each in self.steering}
        steering, *others = opened.values()
        members: dict[str, Verifier] = {}
        for name, verifier in opened.items():
            inner = verifier.verifiers if isinstance(verifier, Ensemble) else []
            members |= {f"{name}/{member.name}": member for member in inner} or {name: verifier}
        return RankEnsemble(list(opened.values())) if others else steering, members

    def remark(self, members: Mapping[str, Verifier], judge: Verifier) -> str:
        """Return a sentence on the networks that both look with; empty if there is none."""
        networks = frozenset().union(*(member.networks for member in members.values()))
        shared = ", ".join(sorted(networks & judge.networks))
        names = ", ".join(each.text for each in (*self.steering, *([self.rescore] if self.rescore else [])))
        return shared and (
            f"{names} and judge {self.judge.text} look with the same network ({shared}): what fools one may fool the "
            "other"
        )
