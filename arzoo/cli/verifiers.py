"""`arzoo verifiers`: list verifiers, and measure how far one agrees with what pictures show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import progress, table
from arzoo.base.errors import UsageError
from arzoo.cli.knobs import misuse


@dataclass(kw_only=True)
class Verifiers:
    """List the verifiers of `arzoo search`, or measure how far one agrees with what pictures show.

    A verifier that steers a search must not share a network with the one that judges the result.
    """

    action: tyro.conf.Positional[Literal["ls", "calibrate"]] = "ls"
    """`ls` lists verifiers; `calibrate NAME` scores held-out drawings for what they show and for what others show."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME[:KEY=VALUE]")] = ""
    """Verifier to calibrate, with settings such as image_text:seed=1."""
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """Generator whose pictures are scored too."""
    data: Annotated[str, tyro.conf.arg(metavar="DATA")] = "emoji64"
    """Data set whose validation split is scored."""
    num: int = 0
    """Number of captions, 0 for all."""
    seed: int = 0
    """Seed of the choice of drawings, of the wrong pairs and of drawn pictures."""

    examples: ClassVar = (
        "arzoo verifiers calibrate image_text --model nar_emoji64_text",
        "arzoo verifiers calibrate class_probe:seed=1 --num 40 --json",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """List, or measure."""
        if self.action == "ls":
            if self.name:
                raise UsageError("usage: arzoo verifiers ls; to measure one: arzoo verifiers calibrate NAME")
            return {"verifiers": _listing()}
        if not self.name:
            raise UsageError("usage: arzoo verifiers calibrate NAME; arzoo verifiers lists the names")
        return self._calibrate()

    def _calibrate(self) -> dict[str, Any]:
        from arzoo import data as datasets
        from arzoo.base import runtime
        from arzoo.base.config import whole_number
        from arzoo.cli.judges import Choice
        from arzoo.generation.generator import Generator
        from arzoo.metrics.agreement import calibrate

        with misuse():
            whole_number(self.num, "--num", least=0)
        chosen = Choice.read(self.name, "calibrate")
        data = datasets.load(self.data).split("validation")
        model = Generator.load(self.model) if self.model else None
        with progress(f"scores of {chosen.name}", "scores") as report:
            figures = calibrate(chosen.name, data, self.num, self.seed, model, chosen.typed, report)
        protocol = {
            "data": self.data, "split": "validation", "data_sha256": data.sha256, "model": self.model,
            "settings": chosen.settings, "seed": self.seed,
        }  # fmt: skip
        return {
            "verifier": chosen.name,
            **_facts(chosen.name),
            **figures,
            "protocol": protocol,
            "versions": runtime.versions(),
        }

    def show(self, document: dict[str, Any]) -> None:
        """Print a table."""
        if self.action == "ls":
            head = ("name", "range", "looks at", "needs", "networks", "extra", "score")
            print(table((_row(name, facts) for name, facts in document["verifiers"].items()), head))
            return
        rows = [
            (f"{which}, {measure}", f"{figure['value']:.3f}", f"± {figure['error']:.3f}")
            for which in ("real", "generated", "real_over_generated")
            for measure, figure in document.get(which, {}).items()
        ]
        print(table([(f"{self.name}, {document['n']} pictures", "", ""), *rows]))
        for gap in document["not_covered"]:
            print(f"not covered: {gap}")


def _listing() -> dict[str, Any]:
    from arzoo.generation.verifiers.catalogue import verifier_classes

    return {name: _facts(name) for name in verifier_classes()}


def _facts(name: str) -> dict[str, Any]:
    """What is known of a verifier without opening it; no end of a range, and what depends on members, are None."""
    from arzoo.base import registry
    from arzoo.generation.verifiers.catalogue import verifier_class

    kind = verifier_class(name)
    return {
        "summary": registry.describe("verifier", name),
        "range": [end if math.isfinite(end) else None for end in kind.range],
        "decodes": int(kind.pictures),
        "verifications": kind.calls,
        "needs": None if kind.relative else sorted(kind.needs),
        "networks": None if kind.relative else sorted(kind.networks),
        "extra": kind.extra or None,
    }


def _row(name: str, facts: dict[str, Any]) -> tuple[str, ...]:
    low, high = ("" if end is None else f"{end:g}" for end in facts["range"])
    needs, networks = (
        "as members" if facts[key] is None else ", ".join(facts[key]) or "-" for key in ("needs", "networks")
    )
    looks = "pictures" if facts["decodes"] else "tokens"
    return name, f"{low}..{high}", looks, needs, networks, facts["extra"] or "-", facts["summary"]
