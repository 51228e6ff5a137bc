"""`arzoo search`: draw pictures that a verifier likes, within a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from arzoo.base.console import human_seconds, table
from arzoo.base.files import file_sha256
from arzoo.cli.options import refuse_below
from arzoo.cli.repeat import repeat
from arzoo.cli.sampling import Sampling
from arzoo.cli.subjects import SEARCHED_TEXT_MODEL, chosen_model


@dataclass(kw_only=True)
class Search(Sampling):
    """Draw candidates, score them with a verifier, and keep the best, within a budget.

    Writes OUT/pictures, OUT/plain (the same seeds drawn without search), OUT/grid.png (side by side), OUT/search.json
    (scores, what was spent, every comparison) and run.json. Another verifier than the one that steers judges.

    Finished pictures are kept: the same command goes on after a kill, starts the interrupted picture anew, and ends
    with the same result, unless the budget is of seconds.
    """

    RECORDED: ClassVar[tuple[str, ...]] = (
        *Sampling.RECORDED, "method", "width", "candidates", "samples", "batch", "lengths", "ahead", "results", "set",
        "verifier", "rescore", "judge", "budget", "reference", "tree",
    )  # fmt: skip
    REPEATED: ClassVar[tuple[str, ...]] = ("generate", "search")

    num: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Number of pictures; by default one per prompt or class."""
    method: Annotated[str | None, tyro.conf.arg(metavar="METHOD")] = None
    """How to search, see `arzoo models --kind search_method`; best_of_n by default."""
    width: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Candidates that a beam keeps after each comparison; 5 by default."""
    candidates: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Candidates per one that was kept; 10 by default."""
    samples: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """For best_of_n: samples, 50 by default, of which the first is the picture drawn without search."""
    batch: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """For best_of_n: samples that are drawn at once; all by default."""
    lengths: Annotated[str | None, tyro.conf.arg(metavar="STEPS")] = None
    """After how many steps of the plan candidates are compared: 1,2,4 or geometric (1, 2, 4, ... up to all),
    geometric:1.5, linear:8 (every 8) or fixed (after every step). The method's own by default."""
    ahead: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """For lookahead: steps drawn ahead before a candidate is scored, 8 by default; -1 draws to the end."""
    results: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Best pictures to keep of each search; 1 by default."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[KEY=VALUE ...]")] = ()
    """Other settings of the method, such as scale_first=true for beam."""
    verifier: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME[:KEY=VALUE] ...]")] = ()
    """Verifiers that steer (see `arzoo verifiers ls`), with settings such as image_text:seed=1; of several, the mean
    rank, which particles and rejection cannot follow. By default image_text for prompts, for captions of its data with
    class_probe:net=effnet_lite0 where a method follows a rank; class_probe for classes."""
    rescore: Annotated[str | None, tyro.conf.arg(metavar="NAME[:KEY=VALUE]")] = None
    """Verifier that chooses among the results of the search at its end, where a cheaper one steers it, such as a value
    model (--verifier value:checkpoint=FOLDER); with --results 5 it sees five."""
    judge: Annotated[str | None, tyro.conf.arg(metavar="NAME[:KEY=VALUE]")] = None
    """Verifier that judges the result and does not steer. By default class_probe for prompts that are captions of its
    data, image_text:seed=1 for others, and class_probe:net=effnet_lite0 for classes."""
    budget: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[COUNT=MOST ...]")] = ()
    """The most that the search for one picture may spend: network_calls, head_calls, decodes, verifications, seconds;
    for example decodes=400. Without limits by default."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="PICTURE")] = None
    """A picture that results should resemble, for verifiers that compare with one."""
    tree: bool = False
    """Also write OUT/trees: the candidates of every comparison, their scores, and which were kept."""
    profile: bool = False
    """Also print the seconds of generator, decoder, verifier and of the search itself, and what share of the others'
    the latter is."""
    like: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """Repeat the search for a picture, or search for one that `arzoo generate` drew; other options replace its
    settings."""
    overwrite: bool = False
    """Start anew in a folder that holds another search, or this one; the files of its previous run are replaced."""
    dry_run: bool = False
    """Show settings, files, and the most that a search without a budget spends; draws and writes nothing."""

    examples: ClassVar = (
        'arzoo search --prompt "red heart" "fish" --samples 30 --out out/hearts',
        "arzoo search runs/ordered --method beam --width 5 --candidates 10 --budget decodes=400 --tree",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Search and write pictures; the document has files, scores and costs."""
        command, seeds = (self, None) if self.like is None else repeat(self, arguments)
        model = chosen_model(command.model, bool(command.prompts), SEARCHED_TEXT_MODEL)
        command = dataclasses.replace(command, model=model)
        command.check()
        from arzoo.cli.gains import search

        return search(command, arguments, seeds)

    def check(self) -> None:
        """Check the options that do not depend on the model.

        Raises:
            UsageError: A number is out of range, or both classes and prompts are given.
        """
        super().check()
        if self.num is not None:
            refuse_below(self, num=1)

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self.num or len(self.prompts) or len(self.classes) or 1

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.out or f"{super().folder}_search")

    def facts(self) -> dict[str, Any]:
        """Return the verb, and the reference with its hash."""
        if self.reference is None:
            return {"verb": "search"}
        path = str(Path(self.reference).resolve())
        return {"verb": "search", "reference": path, "reference_sha256": file_sha256(self.reference)}

    def without_search(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of the picture drawn without search, from those of the one that search chose."""
        own = {*self.RECORDED} - {*Sampling.RECORDED} | {"verb", "reference_sha256"}
        return {name: value for name, value in settings.items() if name not in own}

    def show(self, document: dict[str, Any]) -> None:
        """Print a row per picture, the mean gain in the judge's opinion, and where the pictures are."""
        rows = []
        for entry in document["pictures"]:
            best, plain, spent = entry["results"][0], entry["plain"], entry["spent"]
            scores = [plain["judge"], best["judge"], *plain["verifier"].values(), *best["verifier"].values()]
            cost = f"{spent['network_calls']} calls, {human_seconds(spent['seconds'])}"
            rows.append((best["file"], *("" if x is None else f"{x:.4f}" for x in scores), cost))
        judge, steering = document["config"]["judge"], document["pictures"][0]["plain"]["verifier"]
        columns = [f"{name} {what}" for what in ("plain", "search") for name in steering]
        print(table(rows, ("picture", f"{judge} plain", "search", *columns, "spent")))
        if self.profile:
            print(profile([entry["seconds"] for entry in document["pictures"]]))
        mean, error = document["gain"]["judge"], document["gain"]["error"]
        if mean is not None:
            within = "" if error is None else f" ± {error:.4f}"
            print(f"search adds {mean:.4f}{within} to what judge {judge} says of plain drawing")
        print(f"side by side: {document['grid']}")


def profile(pictures: Sequence[Mapping[str, float]]) -> str:
    """Return a table of the seconds of every part of all searches, and a line on what the search itself adds.

    Args:
        pictures: Seconds by part, of each search.
    """
    parts = {part: sum(seconds[part] for seconds in pictures) for part in pictures[0]}
    total, own = sum(parts.values()), parts["search"]
    rows = [(part, human_seconds(seconds), f"{seconds / total:.1%}") for part, seconds in parts.items()]
    share = f"the search itself adds {own / (total - own):.1%} to the seconds of the other parts"
    return f"{table(rows, ('part', 'time', 'share'))}\n{share}"
