"""`arzoo models`: list checkpoints and components, and which ones fit together."""

from __future__ import annotations

import fnmatch
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import table, table_width
from arzoo.base.errors import UsageError

DEFAULT_WIDTH = 80
"""Width of the overview where there is no terminal."""
_COLUMN = 16
_MORE = """With descriptions: arzoo models --all, or 'nar_*' for a family, or --kind plan.
What goes together: arzoo models --matrix."""


@dataclass(kw_only=True)
class Models:
    """List checkpoints and components by name.

    Without a pattern and a kind it shows families: `nar_* (27)` stands for 27 names that begin with nar_.
    """

    pattern: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATTERN")] = "*"
    """Shell pattern of the names, for example 'nar*'. With --classes, the name or folder of a checkpoint."""
    kind: Literal[
        "all",
        "checkpoint",
        "tokenizer",
        "backbone",
        "head",
        "value",
        "segmenter",
        "text_encoder",
        "plan",
        "search_method",
        "verifier",
        "agglomeration",
        "metric",
        "feature_net",
        "speculation",
        "recipe",
        "published",
    ] = "all"
    """Kind to list; `published` are weights of others that `arzoo convert` brings in by name."""
    all: bool = False
    """List every name with its description."""
    classes: bool = False
    """Print the classes of a generator instead, with their numbers."""
    matrix: bool = False
    """Print which backbones work with which plans and heads instead, which can draw several steps in one call, and why
    the others do not."""

    examples: ClassVar = (
        "arzoo models",
        "arzoo models 'nar*' --kind backbone",
        "arzoo models nar_emoji64 --classes",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Return names and descriptions by kind."""
        from arzoo.base import registry

        if self.classes:
            return {"classes": _classes(self.pattern)}
        if self.matrix:
            from arzoo.generation.matrix import matrix

            fits = matrix(self.pattern)
            return {"matrix": fits.plans, "heads": fits.heads, "ordered": fits.ordered, "ahead": fits.ahead}
        if self.kind == "published":
            return {"published": _published(self.pattern)}
        listing: dict[str, Any] = {}
        if self.kind in ("all", "checkpoint"):
            listing["checkpoint"] = _checkpoints(self.pattern)
        for kind in registry.HOMES:
            if self.kind in ("all", kind) and kind not in ("dataset", "recipe"):
                listing[kind] = registry.summaries(kind, self.pattern)
        if self.kind in ("all", "recipe"):
            from arzoo.train.recipe import summaries

            listing["recipe"] = summaries(self.pattern)
        if self.kind == "plan":
            listing["plan_facts"] = {name: _facts(name) for name in listing["plan"]}
        return listing

    def show(self, document: dict[str, Any]) -> None:
        """Print tables."""
        if self.matrix:
            from arzoo.generation.matrix import as_text

            print(as_text(document["matrix"], document["heads"], document["ordered"], document["ahead"]))
            return
        if self.classes:
            print(table((str(number), name) for number, name in enumerate(document["classes"])))
            return
        if self.pattern == "*" and self.kind == "all" and not self.all:
            print(_overview(document))
            return
        if document.get("plan_facts"):
            print("\n\n".join(_in_words(name, document) for name in document["plan"]))
            return
        for kind, entries in document.items():
            if entries:
                rows = [
                    (name, text if isinstance(text, str) else text["summary"])
                    for name, text in entries.items()
                ]
                title = kind if kind == "published" else f"{kind}s"
                print(f"{title}\n{table((('  ' + name, text) for name, text in rows))}\n")
        if not any(document.values()):
            print(f"nothing matches {self.pattern!r}")


def _classes(name: str) -> list[str]:
    """Return the names of the classes of a generator.

    Raises:
        UsageError: No checkpoint is named, or it has no classes.
        UnknownName: There is no such checkpoint.
    """
    from arzoo.checkpoints.index import read_index
    from arzoo.checkpoints.names import resolve

    if name == "*":
        raise UsageError("whose classes? Name a generator: arzoo models nar_emoji64 --classes")
    classes = read_index(resolve(name)).get("classes")
    if not classes:
        raise UsageError(f"{name} has no classes that have names")
    return list(map(str, classes))


def _overview(document: dict[str, Any]) -> str:
    """The names of every kind in a line or a few, those of a family as one."""
    width = table_width() or DEFAULT_WIDTH
    lines = list[str]()
    for kind, entries in document.items():
        families = [*entries] if kind in ("checkpoint", "plan") else _families(entries)
        names = ", ".join(families).replace(" (", "\N{NO-BREAK SPACE}(")
        indent = " " * _COLUMN
        lines += textwrap.wrap(
            f"{f'{kind}s':<{_COLUMN}}{names}", width, subsequent_indent=indent, break_on_hyphens=False
        )
    text = "\n".join([*lines, "", _MORE])
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _families(names: Iterable[str]) -> list[str]:
    """Return names in their order, of those that share the first word a pattern with their number."""
    names = [*names]
    words = Counter(name.partition("_")[0] for name in names)
    shown = {
        word: f"{word}{'' if word in names else '_'}* ({count})" for word, count in words.items() if count > 1
    }
    return list(dict.fromkeys(shown.get(name.partition("_")[0], name) for name in names))


def _facts(name: str) -> dict[str, Any]:
    """Facts about a plan."""
    from arzoo.samplers.plans.about import about

    plan = about(name)
    options = {option.name: str(option) for option in plan.options}
    return {
        "paper": plan.paper,
        "section": plan.section,
        "readouts": list(plan.readouts),
        "layouts": plan.layout_names(),
        "orders": plan.orders,
        "options": options,
    }


def _in_words(name: str, document: dict[str, Any]) -> str:
    """A plan with its facts, one per line."""
    facts = document["plan_facts"][name]
    section = f", section {facts['section']}" if facts["section"] else ""
    rows = [
        ("paper", facts["paper"] + section),
        ("readouts", ", ".join(facts["readouts"])),
        ("layouts", ", ".join(facts["layouts"])),
        ("options", ", ".join(facts["options"].values()) or "none"),
    ]
    width, indent = table_width() or DEFAULT_WIDTH, " " * _COLUMN
    lines = textwrap.wrap(f"{name}: {document['plan'][name]}", width, subsequent_indent="    ")
    for key, text in rows:
        lines += textwrap.wrap(f"{'  ' + key:<{_COLUMN}}{text}", width, subsequent_indent=indent)
    return "\n".join(lines)


def _published(pattern: str) -> dict[str, dict[str, Any]]:
    """Published weights that are known by name."""
    from arzoo.checkpoints.published import PUBLISHED, UNKNOWN

    return {
        name: {
            "summary": f"{entry.title}: {entry.parameters / 1e6:.0f} M, license: {entry.licence or UNKNOWN}",
            **vars(entry),
        }
        for name, entry in PUBLISHED.items()
        if fnmatch.fnmatchcase(name, pattern)
    }


def _checkpoints(pattern: str) -> dict[str, dict[str, Any]]:
    from arzoo.checkpoints.names import BUNDLED, bundled, listing

    indexes, facts = listing(BUNDLED), {}
    for name in bundled():
        if fnmatch.fnmatchcase(name, pattern):
            parts = indexes[name]["parts"]
            count = sum(part["parameters"] for part in parts.values())
            kind = indexes[name]["kind"]
            facts[name] = {
                "kind": kind,
                "parameters": count,
                "summary": f"{kind}, {count / 1e6:.1f} M parameters",
            }
    return facts
