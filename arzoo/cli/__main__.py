"""Entry point of the command `arzoo`: finds the verb, parses its options, prints its result, explains its errors.

No large library is imported before the options are valid. Exit status: 0 success; 1 something happened, such as a
damaged file; 2 something typed is wrong, such as an option, its value or a name; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import arzoo
from arzoo.base import console
from arzoo.base.console import Lossy
from arzoo.base.errors import ArzooError, UnknownName, UsageError, nearest
from arzoo.version import __version__

VERBS = {
    "generate": "draw pictures with a trained model",
    "demo": "draw in a browser, on a page of this machine",
    "search": "draw pictures that a verifier likes, within a budget",
    "train": "train a tokenizer or a generator from a recipe",
    "recipes": "list recipes, print one, or copy it to change it",
    "tokenize": "encode a data set once, for training",
    "reconstruct": "encode and decode pictures, and compare",
    "describe": "say in words what pictures show",
    "segment": "find the cells of a volume of electron microscopy",
    "evaluate": "score pictures or a checkpoint, with the protocol",
    "leaderboard": "compare figures of the same protocol",
    "verifiers": "list verifiers of a search, or measure how far one agrees with pictures",
    "models": "list checkpoints and components, and which ones fit together",
    "checkpoints": "list, verify, name, share and remove checkpoints",
    "data": "list data sets, or describe one",
    "convert": "import a published checkpoint, or store one in fewer bits",
    "doctor": "check this installation",
    "completion": "make the shell complete verbs and options",
}
"""Verbs with their descriptions; the module of a verb is `arzoo.cli.VERB`, its class is the capitalised verb."""

DISTRIBUTED = {"train", "evaluate"}
"""Verbs in which the processes of a launcher share the work."""


@dataclass(kw_only=True)
class Common:
    """Options of every verb."""

    json: bool = False
    """Print one JSON document to standard output and everything else to standard error."""
    wide: bool = False
    """Do not shorten tables to the width of the terminal; `checkpoints ls` then shows all it knows."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Args:
        arguments: Arguments after `arzoo`; those of the process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    detailed, streams = warnings.formatwarning, (sys.stdout, sys.stderr)
    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    # A verb completes its work even if its output is no longer read, as in `arzoo models | head`.
    out, errors = map(Lossy, streams)
    sys.stdout, sys.stderr = out, errors
    try:
        status = _dispatch(words)
        out.flush()
        if out.failure is not None and not isinstance(out.failure, BrokenPipeError):
            status = _fail(f"cannot write to standard output: {out.failure.strerror}", False, 1)
    except KeyboardInterrupt:  # before the verb began
        status = _fail("interrupted", False, 130)
    finally:
        warnings.formatwarning, (sys.stdout, sys.stderr) = detailed, streams
    sys.exit(status)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"arzoo {__version__}")
        return 0
    broken = next((text for text in words if _printable(text) != text), None)
    if broken is not None:
        return _fail(f"{_printable(broken)!r} is not text in UTF-8; rename the file", "--json" in words, 2)
    name, options = words[0], words[1:]
    if name not in VERBS:
        what = "option" if name.startswith("-") else "verb"
        hint = nearest(name, VERBS)
        return _fail(f"unknown {what} {name!r}.{hint} See: arzoo --help", "--json" in options, 2)
    processes = os.environ.get("WORLD_SIZE", "1")
    if name not in DISTRIBUTED and processes.isdigit() and int(processes) > 1:
        distributed = " and ".join(f"arzoo {verb}" for verb in sorted(DISTRIBUTED))
        what = (
            f"a launcher started {processes} processes (WORLD_SIZE), each of which would do all of the work"
        )
        return _fail(
            f"arzoo {name} works in one process: {what}. Start it without the launcher; {distributed} share the work.",
            "--json" in options,
            2,
        )
    verb = getattr(importlib.import_module(f"arzoo.cli.{name}"), name.capitalize())
    from arzoo.cli.options import gathered, with_paths

    try:
        command, common = _parse(name, verb, gathered(options, (verb, Common)))
    except UsageError as error:
        return _fail(str(error), "--json" in options, 2)
    except SystemExit as stop:
        return int(stop.code or 0)
    return _run(with_paths(command), common, words)


def _overview() -> str:
    lines = ["usage: arzoo VERB [options]", "", (arzoo.__doc__ or "").partition("\n")[0], ""]
    lines += [f"  {verb:<13}{what}" for verb, what in VERBS.items()]
    lines += ["", "Options of a verb: arzoo VERB --help. Version: arzoo --version.", "", "Examples:"]
    return "\n".join([*lines, "  arzoo generate --num 16 --out out/first", "  arzoo doctor"])


def options_of(verb: type) -> type:
    """Return a dataclass with the options of a verb and the common ones, for the parser."""
    import tyro

    from arzoo.cli.help import with_help

    flat = tyro.conf.arg(name="")
    fields = [("verb", Annotated[with_help(verb), flat]), ("common", Annotated[with_help(Common), flat])]
    return dataclasses.make_dataclass(f"{verb.__name__}Options", fields)


def _parse(name: str, verb: type, options: list[str]) -> tuple[Any, Common]:
    """Parse the verb's dataclass and the common options; exits with 0 after help and 2 after a mistake."""
    import tyro

    options_class = options_of(verb)
    out, errors = io.StringIO(), io.StringIO()
    plain = "NO_COLOR" in os.environ  # the parser prints no colors to a captured stream
    try:
        with contextlib.ExitStack() as stack:
            if plain:
                stack.enter_context(contextlib.redirect_stdout(out))
            if plain or "--json" in options:
                stack.enter_context(contextlib.redirect_stderr(errors))
            config = (tyro.conf.FlagCreatePairsOff,)
            parsed: Any = tyro.cli(
                options_class,
                prog=f"arzoo {name}",
                description=inspect.getdoc(verb),
                args=options,
                config=config,
            )
    except SystemExit as stop:
        print(out.getvalue(), end="")
        print(errors.getvalue(), end="", file=sys.stderr)
        if stop.code in (0, None):
            print("\nExamples:\n" + "\n".join(f"  {example}" for example in verb.examples))  # type: ignore[attr-defined]
        elif "--json" in options:
            print(json.dumps({"error": _unboxed(errors.getvalue()) or "wrong use"}, ensure_ascii=False))
        raise
    return verb(**vars(parsed.verb)), Common(**vars(parsed.common))


def _unboxed(text: str) -> str:
    """Remove the frame around a message of the parser."""
    lines = (line.strip("─│╭╮╰╯ ") for line in text.splitlines())
    return " ".join(line for line in lines if line)


def _run(command: Any, common: Common, words: list[str]) -> int:
    """Run a verb and print its result, or one message about what went wrong."""
    from arzoo.cli import dryrun

    try:
        # What libraries print goes to standard error, so that standard output has only the document.
        with contextlib.redirect_stdout(sys.stderr):
            document = command.run(words)
        console.show_wide(common.wide)
        if common.json:
            print(_printable(json.dumps(document, indent=2, ensure_ascii=False, default=str)))
        elif document.get("dry_run"):
            dryrun.show(document)
        else:
            command.show(document)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if common.debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            return _fail(str(error) or "interrupted", common.json, 130)
        typed = isinstance(error, (UsageError, UnknownName))
        return _fail(_explain(error, command), common.json, 2 if typed else 1)


def _explain(error: Exception, command: object) -> str:
    """Return one message for any error."""
    from arzoo.base.memory import is_out_of_memory

    if isinstance(error, ArzooError):
        return str(error)
    if is_out_of_memory(error):
        smaller = {
            "batch": "a smaller --batch",
            "num": "a smaller --num",
            "recipe": "a larger --run.accumulate",
        }
        remedies = [text for name, text in smaller.items() if hasattr(command, name)]
        remedies += ["--precision bf16"] if hasattr(command, "precision") else []
        reason = str(error).partition("\n")[0].partition(". ")[0]
        return f"out of memory: {reason or 'it was not enough'}. Try {' or '.join(remedies or ['to free some first'])}."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != "arzoo":
        return (
            f"the package {error.name!r} is not installed. Install what arzoo needs with: pip install arzoo"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error}. This is a defect of arzoo; --debug shows where it happened."


def _printable(text: str) -> str:
    """Return text that every stream accepts: bytes of file names that are not text are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _fail(message: str, as_json: bool, status: int) -> int:
    message = _printable(message)
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message}, ensure_ascii=False))
    return status


if __name__ == "__main__":
    main()
