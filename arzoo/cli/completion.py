"""`arzoo completion`: a script that lets the shell complete verbs and options."""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Union

import tyro


@dataclass(kw_only=True)
class Completion:
    """Print a script that makes the shell complete verbs, options and their choices.

    bash: arzoo completion bash > ~/.local/share/bash-completion/completions/arzoo. zsh: > _arzoo in a folder of $fpath.
    fish: > ~/.config/fish/completions/arzoo.fish.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell."""

    examples: ClassVar = ("arzoo completion bash > ~/.local/share/bash-completion/completions/arzoo",
                          "arzoo completion fish > ~/.config/fish/completions/arzoo.fish")  # fmt: skip

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Return the script."""
        script = io.StringIO()
        with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
            tyro.cli(
                _all_verbs(), prog="arzoo", args=["--tyro-print-completion", self.shell],
                config=(tyro.conf.FlagCreatePairsOff,),
            )  # fmt: skip
        return {"shell": self.shell, "script": script.getvalue()}

    def show(self, document: dict[str, Any]) -> None:
        """Print only the script, for a file."""
        print(document["script"], end="")


def _all_verbs() -> Any:
    """All verbs as sub-commands of one parser; `main` builds the parser of one verb only."""
    from arzoo.cli.__main__ import VERBS, options_of

    subcommands = []
    for name, about in VERBS.items():
        verb = getattr(importlib.import_module(f"arzoo.cli.{name}"), name.capitalize())
        subcommands.append(Annotated[options_of(verb), tyro.conf.subcommand(name, description=about)])
    return Union[tuple(subcommands)]  # noqa: UP007  made at run time
