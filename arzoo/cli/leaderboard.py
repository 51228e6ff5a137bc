"""`arzoo leaderboard`: tables of figures of the same protocol."""

from __future__ import annotations

import fnmatch
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from arzoo.base.console import table
from arzoo.base.errors import ArzooError

if TYPE_CHECKING:
    from arzoo.metrics.record import Entry


@dataclass(kw_only=True)
class Leaderboard:
    """Compare measured checkpoints and samples, with one table per protocol.

    Reads shipped, named and downloaded checkpoints, and those in runs/, checkpoints/ and out/. Two or more names
    without wildcards must have a protocol in common. Figures that were edited, or measured with other weights than the
    checkpoint has now, are left out with a remark.
    """

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[PATTERN ...]")] = ()
    """Checkpoints by name, folder or hf-hub:org/name, folders of evaluations, or shell patterns; all by default."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[FIGURE ...]")] = ()
    """Figures to show, as names or shell patterns such as 'kid*'; all by default. The first one sorts."""

    examples: ClassVar = (
        "arzoo leaderboard",
        "arzoo leaderboard runs/a runs/b --metrics 'fd*'",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Return tables by protocol, and what was left out."""
        everything, left_out = self.entries()
        valid = [entry for entry in everything if not entry.doubt]
        left_out |= {entry.subject: entry.doubt for entry in everything if entry.doubt}
        chosen = self.metrics or ("*",)
        valid = [
            entry for entry in valid if any(fnmatch.fnmatchcase(entry.figure, pattern) for pattern in chosen)
        ]
        named = [name for name in self.names if not _is_pattern(name)]
        if len(set(named)) > 1:
            valid = comparable(valid, named, left_out)
        return {
            "tables": [_table_of(group, chosen) for group in _by_protocol(valid)],
            "left_out": left_out,
        }

    def show(self, document: dict[str, Any]) -> None:
        """Print the tables."""
        if not document["tables"]:
            print("nothing was measured under a protocol; see: arzoo evaluate --help")
        for content in document["tables"]:
            figures = list(dict.fromkeys(name for row in content["rows"] for name in row["figures"]))
            rows = [
                (row["subject"], *(_cell(row["figures"].get(name)) for name in figures))
                for row in content["rows"]
            ]
            print(f"protocol {content['comparable']}: {content['summary']}\n{table(rows, ('', *figures))}\n")
        if len(document["tables"]) > 1:
            print("Figures of different tables cannot be compared.")
        for name, reason in document["left_out"].items():
            print(f"left out: figures of {name} ({reason})")

    def entries(self) -> tuple[list[Entry], dict[str, str]]:
        """Return the figures of all chosen names, and the reasons why those of some names cannot be read."""
        from arzoo.metrics.record import entries, entries_of

        everything, problems = entries()
        if not self.names:
            return everything, problems
        chosen = []
        for name in self.names:
            matching = [entry for entry in everything if fnmatch.fnmatchcase(entry.subject, name)]
            chosen += matching if matching or _is_pattern(name) else entries_of(name)
        reasons = {
            name: problem
            for name, problem in problems.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)
        }
        return chosen, reasons


def comparable(figures: list[Entry], names: list[str], left_out: Mapping[str, str]) -> list[Entry]:
    """Return the figures that all names have under the same protocol and definition.

    Raises:
        ArzooError: There are none.
    """
    subjects = {name: [entry for entry in figures if entry.subject == name] for name in names}
    for name, entries in subjects.items():
        if not entries:
            why = f" ({left_out[name]})" if name in left_out else ""
            raise ArzooError(
                f"{name} has no such figures with a protocol{why}. Evaluate it first: arzoo evaluate {name}"
            )
    shared = set.intersection(*({entry.group for entry in entries} for entries in subjects.values()))
    if not shared:
        raise ArzooError(_unlike(names, subjects))
    return [entry for entry in figures if entry.group in shared]


def _unlike(names: list[str], subjects: dict[str, list[Entry]]) -> str:
    """Message why figures of several names cannot be compared: the differences of the two least alike."""

    def reasons(one: str, other: str) -> list[str]:
        pairs = ((a.protocol, b.protocol) for a in subjects[one] for b in subjects[other])
        return min((a.differences(b) for a, b in pairs), key=len)

    one, other = max(itertools.combinations(names, 2), key=lambda pair: len(reasons(*pair)))
    why = "; ".join(reasons(one, other)) or "their figures, which have other names or definitions"
    return (
        f"{' and '.join(names)} were not measured alike, so their figures cannot be compared: {one} and {other} differ "
        f"in {why}. Measure them alike: arzoo evaluate NAME with the same --reference, --net and --num"
    )


def _by_protocol(figures: list[Entry]) -> list[list[Entry]]:
    counts = Counter(entry.protocol.key for entry in figures)
    return [[entry for entry in figures if entry.protocol.key == key] for key, _ in counts.most_common()]


def _table_of(group: list[Entry], chosen: tuple[str, ...]) -> dict[str, Any]:
    """Rows of one protocol, the best ones first."""
    definitions: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {}
    for entry in group:
        same = definitions.setdefault(entry.figure, entry.definition) == entry.definition
        column = entry.figure if same else f"{entry.figure} ({entry.definition})"
        figure = {name: getattr(entry, name) for name in ("value", "error", "better", "definition")}
        rows.setdefault(entry.subject, {})[column] = figure
    matching = (name for pattern in chosen for name in definitions if fnmatch.fnmatchcase(name, pattern))
    first = next(matching)
    sign = -1 if any(entry.better == "higher" for entry in group if entry.figure == first) else 1

    def rank(item: tuple[str, dict[str, Any]]) -> float:
        return sign * item[1][first]["value"] if first in item[1] else float("inf")

    protocol = group[0].protocol
    return {
        "comparable": protocol.key,
        "summary": protocol.summary,
        "protocol": protocol.to_dict(),
        "rows": [
            {"subject": subject, "figures": figures} for subject, figures in sorted(rows.items(), key=rank)
        ],
    }


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['value']:.4g}" + (f" ± {figure['error']:.2g}" if figure["error"] is not None else "")


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")
