"""`arzoo train`: train a model from a recipe."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from arzoo.base.console import note, table
from arzoo.base.errors import ArzooError
from arzoo.cli.options import refuse_below
from arzoo.cli.output import is_untouched, output_folder
from arzoo.cli.settings import as_options, chosen
from arzoo.train.recipe import Recipe


@dataclass(kw_only=True)
class Train(as_options(Recipe)):  # type: ignore[misc]
    """Train a tokenizer, a generator or a value model from a recipe.

    The same command continues a run that was stopped. Every setting of the recipe can be changed, by its option
    (--run.steps 200) or as KEY=VALUE (run.steps=200). Settings of model, plan and heads depend on which they are:
    --model.width 96, plan.steps=8, heads.0.depth=4.
    """

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")]
    """A shipped recipe (see `arzoo recipes`) or a YAML file."""
    settings: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY=VALUE ...]")] = ()
    """Settings that differ from the recipe, such as model.width=96 or optim.lr=5e-4."""
    more: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="[KEY=VALUE ...]")] = ()
    """The same settings, given as an option."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the run; runs/RECIPE by default."""
    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Stop after this step of the schedule; the same command without it continues."""
    resume: Annotated[str, tyro.conf.arg(metavar="auto|never|PATH")] = "auto"
    """auto continues a run in the folder; never refuses to; the path of another run, or of one of its saved states,
    begins with the weights and optimizer of that run, also with other settings."""
    dry_run: bool = False
    """Show the resolved recipe, what the run would continue, memory, expected time and files, measured on three of its
    steps; refuse what it would refuse, and write nothing."""

    examples: ClassVar = (
        "arzoo train smoke --max-steps 20 --out runs/smoke",
        "arzoo train nar_emoji64 model.width=192 --run.steps 200 --dry-run",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Train; the document has steps, hours, figures and the checkpoint's folder."""
        from rich.console import Console

        from arzoo.train.build import run
        from arzoo.train.recipe import load_recipe
        from arzoo.train.sizing import fitted

        if self.max_steps is not None:
            refuse_below(self, max_steps=1)
        recipe = load_recipe(self.recipe, typed=[*chosen(self, Recipe), *self.settings, *self.more])
        recipe = fitted(recipe)
        folder = Path(self.out or f"runs/{Path(self.recipe).stem}")
        source = None if self.resume in ("auto", "never") else Path(self.resume)
        # The first of several processes locks the folder and prints the result.
        first = not int(os.environ.get("RANK", 0))
        if first:
            check_folder(folder, self.resume)
        if self.dry_run:
            from arzoo.train.rehearsal import rehearse

            note("reading the data and measuring three steps")
            document = rehearse(recipe, folder, self.max_steps, source)
            if first:
                return document
            raise SystemExit(0)
        console, command = Console(stderr=True), shlex.join(["arzoo", *arguments])
        if not first:
            run(recipe, folder, self.max_steps, console, source, command)
            raise SystemExit(0)
        with output_folder(folder, True, arguments, resume=True, doing="trains in") as output:
            output.facts["config"] = recipe.to_dict()
            result = run(recipe, folder, self.max_steps, console, source, command)
            output.facts |= result
            # Not among the files of the record, which a run with --overwrite would remove.
            output.facts["checkpoint_files"] = hashes(folder, Path(result["checkpoint"]))
        return {"folder": str(folder), **result}

    def show(self, document: dict[str, Any]) -> None:
        """Print steps, figures and the checkpoint."""
        print(f"step {document['steps']}, {document['hours']} hours")
        if document["metrics"]:
            print(table((name, f"{value:.5g}") for name, value in document["metrics"].items()))
        print(f"checkpoint: {document['checkpoint']}")


def hashes(folder: Path, inner: Path) -> dict[str, str]:
    """Compute the sha256 of the files in `inner`, by their paths relative to `folder`."""
    from arzoo.base.files import file_sha256

    files = sorted(path for path in inner.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}


def check_folder(folder: Path, resume: str) -> None:
    """Refuse a folder that holds anything but a run to continue.

    Raises:
        ArzooError: The folder holds other files, or a run and `resume` is "never".
    """
    if not folder.exists():
        return
    if folder.is_dir() and is_untouched(folder):
        return
    is_run = (folder / "recipe.yaml").exists()
    if is_run and resume == "never":
        raise ArzooError(f"{folder} holds a run. Continue it with --resume auto, or give another --out.")
    if not is_run:
        raise ArzooError(f"{folder} exists and holds no training run. Give another --out, or empty it.")
