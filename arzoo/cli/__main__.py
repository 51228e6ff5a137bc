"""Entry point of the command `arzoo`: finds the verb, parses its options, prints its result, explains its errors.

Nothing heavy is imported before the options are valid. Exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted.
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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import arzoo
from arzoo.errors import ArzooError, nearest

VERBS = {
    "generate": "draw pictures with a trained model",
    "train": "train a tokenizer or a generator from a recipe",
    "tokenize": "encode a data set once, for training",
    "reconstruct": "encode and decode pictures, and compare",
    "evaluate": "measure pictures or a checkpoint, with the protocol",
    "leaderboard": "compare what was measured alike",
    "models": "list checkpoints and components, and what fits together",
    "data": "list data sets, or look into one",
    "convert": "bring a published checkpoint in, or store one in half the size",
    "doctor": "check this installation",
}
"""Verbs and what they do; the module of a verb is `arzoo.cli.VERB`, its class is the capitalised verb."""


@dataclass(kw_only=True)
class Common:
    """Options of every verb."""

    json: bool = False
    """Print one JSON document to standard output and everything else to standard error."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Args:
        arguments: What follows `arzoo`; those of the process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _dispatch(given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe went away, as in `arzoo models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        print(f"arzoo {arzoo.__version__}")
        return 0
    name, options = given[0], given[1:]
    if name not in VERBS:
        what = "option" if name.startswith("-") else "verb"
        hint = nearest(name, VERBS)
        return _fail(f"unknown {what} {name!r}.{hint} See: arzoo --help", "--json" in options, 2)
    verb = getattr(importlib.import_module(f"arzoo.cli.{name}"), name.capitalize())
    if hasattr(verb, "rewrite"):
        options = verb.rewrite(options)
    try:
        command, common = _parse(name, verb, options)
    except SystemExit as stop:
        return int(stop.code or 0)
    return _run(command, common, given)


def _overview() -> str:
    lines = ["usage: arzoo VERB [options]", "", arzoo.__doc__ or "", ""]
    lines += [f"  {verb:<13}{what}" for verb, what in VERBS.items()]
    lines += ["", "Options of a verb: arzoo VERB --help. Version: arzoo --version.", "", "Examples:"]
    return "\n".join([*lines, "  arzoo generate --num 16 --out out/first", "  arzoo doctor"])


def _parse(name: str, verb: type, options: list[str]) -> tuple[Any, Common]:
    """The verb's dataclass and the common options; exits with 0 after help and 2 after a mistake."""
    import tyro

    flat = tyro.conf.arg(name="")
    fields = [("verb", Annotated[verb, flat]), ("common", Annotated[Common, flat])]
    whole = dataclasses.make_dataclass("Options", fields)
    out, errors = io.StringIO(), io.StringIO()
    plain = "NO_COLOR" in os.environ  # a captured stream is no terminal, so the parser leaves colours out
    try:
        with contextlib.ExitStack() as stack:
            if plain:
                stack.enter_context(contextlib.redirect_stdout(out))
            if plain or "--json" in options:
                stack.enter_context(contextlib.redirect_stderr(errors))
            config = (tyro.conf.FlagCreatePairsOff,)
            parsed: Any = tyro.cli(
                whole, prog=f"arzoo {name}", description=inspect.getdoc(verb), args=options, config=config
            )
    except SystemExit as stop:
        print(out.getvalue(), end="")
        print(errors.getvalue(), end="", file=sys.stderr)
        if stop.code in (0, None):
            print("\nExamples:\n" + "\n".join(f"  {example}" for example in verb.examples))  # type: ignore[attr-defined]
        elif "--json" in options:
            print(json.dumps({"error": errors.getvalue() or "wrong use"}))
        raise
    return parsed.verb, parsed.common


def _run(command: Any, common: Common, given: list[str]) -> int:
    """Run a verb and print its document, or one message about what went wrong."""
    try:
        # Whatever a library prints goes to standard error, so that the document stands alone.
        with contextlib.redirect_stdout(sys.stderr):
            document = command.run(given)
        if common.json:
            print(json.dumps(document, indent=2, ensure_ascii=False, default=str))
        else:
            command.show(document)
        return 0
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if common.debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            return _fail(str(error) or "interrupted", common.json, 130)
        return _fail(_explain(error), common.json, 1)


def _explain(error: Exception) -> str:
    """One message for any error."""
    if isinstance(error, ArzooError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {str(error).partition('.')[0]}. Try a smaller --batch, or --precision bf16."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error}. This is a defect of arzoo; --debug shows where it happened."


def _fail(message: str, as_json: bool, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message}, ensure_ascii=False))
    return status


if __name__ == "__main__":
    main()
