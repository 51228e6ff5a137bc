"""`arzoo recipes`: list the shipped recipes, print one, or copy it to change it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import table
from arzoo.base.errors import ArzooError, UnknownName, UsageError

_COUNTS = {"show": (1, 1, "RECIPE"), "cp": (1, 2, "RECIPE [FILE]")}


@dataclass(kw_only=True)
class Recipes:
    """List the shipped recipes, print one, or copy it to a file of your own, which `arzoo train FILE` takes."""

    action: tyro.conf.Positional[Literal["ls", "show", "cp"]] = "ls"
    """`ls [PATTERN ...]` lists recipes; `show RECIPE` prints one; `cp RECIPE [FILE]` copies it, to RECIPE.yaml if no
    FILE is given."""
    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAMES")] = ()
    """Names for the action."""
    overwrite: bool = False
    """Replace the file if it exists."""

    examples: ClassVar = (
        "arzoo recipes ls 'nar*'",
        "arzoo recipes show smoke",
        "arzoo recipes cp smoke mine.yaml",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Do the action."""
        from arzoo.train.recipe import recipes, summaries

        if self.action == "ls":
            return {"recipes": summaries(*self.names)}
        low, high, usage = _COUNTS[self.action]
        if not low <= len(self.names) <= high:
            raise UsageError(f"usage: arzoo recipes {self.action} {usage}")
        known, name = recipes(), self.names[0]
        if name not in known:
            raise UnknownName("recipe", name, known, "`arzoo recipes ls` lists them.")
        text = known[name].read_text(encoding="utf-8")
        if self.action == "show":
            return {"recipe": name, "path": str(known[name]), "text": text}
        return {
            "recipe": name,
            "path": str(self._copied(text, Path(self.names[-1] if self.names[1:] else f"{name}.yaml"))),
        }

    def show(self, document: dict[str, Any]) -> None:
        """Print a table, the recipe, or where it was copied to."""
        if self.action == "ls":
            rows, asked = list(document["recipes"].items()), " or ".join(map(repr, self.names))
            print(table(rows, ("recipe", "what it trains")) if rows else f"nothing matches {asked}")
        elif self.action == "show":
            print(document["text"], end="")
        else:
            print(
                f"{document['recipe']} is in {document['path']}; change it, then: arzoo train {document['path']}"
            )

    def _copied(self, text: str, path: Path) -> Path:
        """Write a recipe to a file of the user."""
        from arzoo.base.files import refuse_existing, write_text

        if path.is_dir():
            path = path / f"{self.names[0]}.yaml"
        if path.suffix not in (".yaml", ".yml"):
            raise UsageError(f"{path} does not end in .yaml, as the file of a recipe does")
        if not path.parent.is_dir():
            raise ArzooError(f"there is no folder {path.parent} to write {path.name} to")
        refuse_existing(path, self.overwrite)
        write_text(path, text)
        return path
