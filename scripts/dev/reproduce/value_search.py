"""Claim: a value model steers a search better than decoded partial pictures at equal seconds ("TVM", 2024).

    arzoo train value_raster_emoji64
    python scripts/dev/reproduce/value_search.py runs/value_raster_emoji64

Searches for pictures of classes spread over those of the generator, with several sizes of every way to search: best of
N and beam that decode what they score, and the same steered by values, with the verifier itself only on their results.
Seconds are those of the searches; compare rows of equal ones. A judge with networks of its own scores the results.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
from searching import measured, summary

from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.base.runtime import sample_seed
from arzoo.data.pictures import chosen_rows
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import class_words
from arzoo.generation.values import Value
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.generation.verifiers.value import TokenValue
from arzoo.samplers.search.algorithm import Search
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.lengths import linear
from arzoo.samplers.search.rescored import Rescored
from arzoo.samplers.verifiers.base import Subject
from arzoo.viz.plots import Band, plot_bands

SIZES = {"beam": ((2, 2), (2, 4), (4, 8)), "best of N": (2, 4, 8, 16)}
"""Sizes of the searches: width and candidates, and N."""
EVERY = 4
"""Tokens between the comparisons of a beam that is steered by values, which cost next to nothing."""
HEAD = ("search", "judge", "verifier", "seconds", "decodes", "network calls")


def arms(steps: int, value: TokenValue) -> dict[str, Search]:
    """Ways to search by name, over a plan of so many steps."""
    ways: dict[str, Search] = {"plain": BestOfN(1)}
    for count in SIZES["best of N"]:
        ways[f"best of {count}, decoded"] = BestOfN(count)
        ways[f"best of {count}, by value"] = Rescored(BestOfN(count, results=min(2, count)), value)
    for width, candidates in SIZES["beam"]:
        ways[f"beam {width} x {candidates}, decoded"] = Beam(width, candidates)
        steered = Beam(width, candidates, lengths=linear(steps, min(EVERY, steps)), results=width)
        ways[f"beam {width} x {candidates}, by value"] = Rescored(steered, value)
    return ways


def parser() -> ArgumentParser:
    """Options of the script."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("value", help="checkpoint or run of a value model")
    options.add_argument("--generator", help="its generator, if not where its training took it from")
    options.add_argument("--judge", default="image_text", help="default: %(default)s")
    options.add_argument("--num", type=int, default=16, help="classes, per seed (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    return options


def main() -> None:
    """Search, judge and write."""
    arguments = parser().parse_args()
    steering = TokenValue(checkpoint=arguments.value)
    value: Value = steering.value
    model = Generator.load(arguments.generator or value.generator["name"])
    classes = chosen_rows(len(model.classes), arguments.num)
    subjects = [Subject(label=name, prompt=class_words(name)) for name in (model.classes[i] for i in classes)]
    verifiers = [
        open_verifier(value.judge["verifier"], subject, **value.judge["options"]) for subject in subjects
    ]
    judges = [open_verifier(arguments.judge, subject) for subject in subjects]
    if common := judges[0].networks & steering.networks:
        raise UsageError(
            f"judge {arguments.judge} looks with {', '.join(common)}, as what steers; name another judge"
        )
    ways, rows = arms(len(model.plan()), steering), dict[str, Any]()
    model.search(ways["plain"], verifiers[0], classes=classes[:1])  # the first one is slower than the others
    with progress("searches", "ways") as report:
        for done, (name, way) in enumerate(ways.items(), 1):
            figures = [
                measured(model, way, classes, verifiers, judges, sample_seed(seed, 0))
                for seed in arguments.seeds
            ]
            rows[name] = summary(figures)
            report(done, len(ways))
    cells = [[name, *shown(row)] for name, row in rows.items()]
    claim.write(
        "value_search", "A value model instead of decoded partial pictures", HEAD, cells, rows,
        pictures=arguments.num, seeds=arguments.seeds,
        protocol={"generator": value.generator["name"], "verifier": value.judge["verifier"], "judge": arguments.judge},
    )  # fmt: skip
    plot(rows)


def plot(rows: dict[str, Any]) -> None:
    """Plot what the verifier and the judge say over the seconds of the searches, a line for every kind of search."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, row in rows.items():
        search, _, eyes = name.partition(", ")
        kind = next((kind for kind in SIZES if search.startswith(kind.removesuffix(" N"))), search)
        kinds.setdefault(f"{kind}, {eyes}" if eyes else kind, []).append(row)
    panels = {
        score: {
            kind: Band(*([row[each] for row in line] for each in ("seconds", score, f"{score}_error")))
            for kind, line in kinds.items()
        }
        for score in ("verifier", "judge")
    }
    plot_bands(panels, claim.CLAIMS / "value_search.png", "seconds per picture")


def shown(row: dict[str, float | None]) -> list[str]:
    """A row of the table, without its name."""
    scores = [claim.with_error(row[name], row[f"{name}_error"], 4) for name in ("judge", "verifier")]
    return [
        *scores,
        *(
            f"{row[name]:.{digits}f}"
            for name, digits in (("seconds", 3), ("decodes", 0), ("network_calls", 0))
        ),
    ]


if __name__ == "__main__":
    main()
