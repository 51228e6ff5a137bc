"""Claim: one pass of an adaptive tokenizer replaces a search over lengths (KARL, 2025).

    python scripts/dev/reproduce/one_pass.py
    python scripts/dev/reproduce/one_pass.py --tokenizer runs/karl_emoji64/checkpoint --qualities 0.05 --num 20

Encodes held-out drawings once with a target error, and with every number of slots, all of them kept, for a search of
the shortest encoding that is within the target, or as good as that of the one pass. A search decodes all that it tries.
Prefixes of an ordered tokenizer, which are encoded together, are searched in the same way.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import claim
import torch
from torch import Tensor

from arzoo import data as datasets
from arzoo.base import runtime
from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.contracts import Tokenizer
from arzoo.data.pictures import chosen_rows
from arzoo.data.transforms import composite, to_model
from arzoo.metrics.scores.retrieval import mean_and_error
from arzoo.tokenizers.common.lengths import lengths_of
from arzoo.tokenizers.common.still_pictures import to_unit
from arzoo.tokenizers.karl.tokenizer import Karl, Reading

Method = Callable[[Sequence[float], float], tuple[list[int], int]]


@dataclass
class Attempt:
    """One encoding of one picture.

    Attributes:
        tokens: Number of tokens.
        error: Mean absolute error of pixels in [0, 1].
        encoding: CPU seconds of the encoder, without the base autoencoder.
        decoding: CPU seconds of the decoder and the base autoencoder.
    """

    tokens: int
    error: float
    encoding: float
    decoding: float


@dataclass
class Outcome:
    """The encoding of a picture that a method chose, and what it took.

    Attributes:
        tokens: Number of tokens.
        error: Mean absolute error.
        within: Whether it is within the target.
        encoder_passes: Passes of the encoder.
        decoder_passes: Passes of the decoder that the choice needs.
        seconds: CPU seconds until the tokens are known.
    """

    tokens: int
    error: float
    within: bool
    encoder_passes: int
    decoder_passes: int
    seconds: float


@dataclass
class Ladder:
    """Encodings of one picture with rising numbers of tokens, for a search.

    Attributes:
        attempts: The encodings.
        seconds: CPU seconds of what all of them share.
        encoder_passes: Passes of the encoder that all of them share; without any, each takes one.
    """

    attempts: list[Attempt]
    seconds: float
    encoder_passes: int = 0

    def search(self, goal: float, quality: float, method: Method) -> Outcome:
        """Search the shortest encoding whose error is at most `goal`.

        Args:
            goal: Largest error.
            quality: The target error.
            method: The order in which lengths are tried.
        """
        visited, choice = method([attempt.error for attempt in self.attempts], goal)
        passes, chosen = len(visited), self.attempts[choice]
        seconds = self.seconds + sum(self.attempts[i].encoding + self.attempts[i].decoding for i in visited)
        within = chosen.error <= quality
        return Outcome(chosen.tokens, chosen.error, within, self.encoder_passes or passes, passes, seconds)


def prefixes(tokenizer: Tokenizer, x: Tensor) -> Ladder:
    """Prefixes of a picture (1, 3, H, W) in [0, 1], which is encoded once."""
    started = time.process_time()
    tokens = tokenizer.encode(as_clips(2 * x - 1))
    seconds, attempts = time.process_time() - started, []
    for length in lengths_of(tokenizer.spec.layout.size):
        started = time.process_time()
        rebuilt = to_unit(as_pictures(tokenizer.decode(tokens.first(length)))).clamp(0, 1)
        decoding = time.process_time() - started
        attempts.append(Attempt(length, float((rebuilt - x).abs().mean()), 0.0, decoding))
    return Ladder(attempts, seconds, encoder_passes=1)


class Encodings:
    """All encodings of one picture, timed.

    Args:
        tokenizer: The adaptive tokenizer.
        ordered: A tokenizer with prefixes.
        x: The picture (1, 3, H, W) in [0, 1].
        qualities: Target errors of single passes.
        lengths: Numbers of slots, ascending.
    """

    def __init__(
        self,
        tokenizer: Karl,
        ordered: Tokenizer,
        x: Tensor,
        qualities: Sequence[float],
        lengths: Sequence[int],
    ) -> None:
        self.tokenizer, self.x = tokenizer, x
        started = time.process_time()
        self.latents = tokenizer.base_latents(x)
        self.base_seconds = time.process_time() - started
        self.single = {quality: self._attempt(quality) for quality in qualities}
        by_length = [self._attempt(0.0, length) for length in lengths]
        self.ladders = {"lengths": Ladder(by_length, self.base_seconds), "prefixes": prefixes(ordered, x)}

    def _attempt(self, quality: float, slots: int | None = None) -> Attempt:
        """Encode and decode; with a number of slots none of them is halted."""
        times = [time.process_time()]
        reading: Reading = self.tokenizer.read(self.x, self.latents, torch.tensor([quality]), slots)
        kept = reading.kept if slots is None else torch.ones_like(reading.kept)
        times.append(time.process_time())
        rebuilt = self.tokenizer.pictures(self.tokenizer.rebuild(reading.vectors, kept)).clamp(0, 1)
        times.append(time.process_time())
        error = float((rebuilt - self.x).abs().mean())
        return Attempt(int(kept.sum()), error, times[1] - times[0], times[2] - times[1])

    def one_pass(self, quality: float) -> Outcome:
        """Encode once with the target error; nothing is decoded."""
        attempt = self.single[quality]
        seconds = self.base_seconds + attempt.encoding
        return Outcome(attempt.tokens, attempt.error, attempt.error <= quality, 1, 0, seconds)


def ascending(errors: Sequence[float], goal: float) -> tuple[list[int], int]:
    """Try lengths from the shortest on until one is good enough; the last one is the choice if none is.

    Returns:
        Indices of the lengths that were tried, and of the choice.
    """
    choice = next((i for i, error in enumerate(errors) if error <= goal), len(errors) - 1)
    return list(range(choice + 1)), choice


def bisection(errors: Sequence[float], goal: float) -> tuple[list[int], int]:
    """Halve the range of lengths, as if errors fell with the length; returns as `ascending`."""
    low, high, visited = 0, len(errors) - 1, []
    while low < high:
        middle = (low + high) // 2
        visited.append(middle)
        low, high = (low, middle) if errors[middle] <= goal else (middle + 1, high)
    return [*visited, *([] if low in visited else [low])], low


METHODS = (
    ("lengths", "ascending", ascending), ("lengths", "bisection", bisection), ("prefixes", "ascending", ascending),
)  # fmt: skip
"""What is searched, and how."""


def outcomes(encodings: Encodings, quality: float) -> dict[str, Outcome]:
    """What every method makes of a picture."""
    single = encodings.one_pass(quality)
    return {"one pass": single} | {
        f"{kind} {goal_name}, {name}": encodings.ladders[kind].search(goal, quality, method)
        for goal_name, goal in (("within the target", quality), ("as good as one pass", single.error))
        for kind, name, method in METHODS
    }


def mean_outcome(of_pictures: Sequence[Outcome]) -> dict[str, tuple[float, float | None]]:
    """Means over pictures and their standard errors."""
    values = {
        field.name: [float(getattr(one, field.name)) for one in of_pictures] for field in fields(Outcome)
    }
    return {name: mean_and_error(torch.tensor(numbers)) for name, numbers in values.items()}


@torch.inference_mode()
def main() -> None:
    """Encode, search and write."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--tokenizer", default="karl_emoji64", help="a KARL (default: %(default)s)")
    options.add_argument("--ordered", default="ordered_emoji64", help="has prefixes (default: %(default)s)")
    options.add_argument(
        "--qualities", type=float, nargs="+", default=[0.03, 0.05, 0.09], help="default: 0.03 0.05 0.09"
    )
    options.add_argument(
        "--every", type=int, default=4, help="lengths are multiples of this (default: %(default)s)"
    )
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.add_argument("--num", type=int, default=0, help="held-out pictures, 0 for all (default)")
    arguments = options.parse_args()
    runtime.set_threads(1)
    tokenizer = open_checkpoint(arguments.tokenizer).load("tokenizer")
    if not isinstance(tokenizer, Karl):
        raise UsageError(
            f"--tokenizer must be a KARL, whose slots can be any number, got {type(tokenizer).__name__}"
        )
    ordered = open_checkpoint(arguments.ordered).load("tokenizer")
    if not ordered.spec.prefix_ok:
        raise UsageError(f"--ordered must have prefixes that are pictures, but {arguments.ordered} has none")
    held_out = datasets.load(arguments.data).split("validation")
    images = composite(held_out.images[chosen_rows(len(held_out), arguments.num)])
    lengths = range(arguments.every, tokenizer.config.slots + 1, arguments.every)
    by_picture = []
    with progress("encodings of all lengths", "pictures") as report:
        for picture in to_unit(to_model(images)).split(1):
            by_picture.append(Encodings(tokenizer, ordered, picture, arguments.qualities, lengths))
            report(len(by_picture), len(images))
    rows: dict[str, Any] = {}
    cells = []
    for quality in arguments.qualities:
        results = [outcomes(encodings, quality) for encodings in by_picture]
        for name in results[0]:
            means = mean_outcome([result[name] for result in results])
            rows.setdefault(f"{quality:g}", {})[name] = means
            shown = zip(means.values(), (1, 4, 2, 1, 1, 3), strict=True)
            cells.append([f"{quality:g}", name, *(claim.with_error(*mean, digits) for mean, digits in shown)])
            print(" | ".join(cells[-1]), flush=True)
    claim.write(
        "one_pass", "One pass, or a search over lengths",
        ["target", "method", "tokens", "error", "within", "encoder passes", "decoder passes", "CPU s / picture"],
        cells, rows, pictures=len(images), seeds=[],
        protocol={"data": arguments.data, "lengths": list(lengths), "ordered": arguments.ordered, "threads": 1},
    )  # fmt: skip


if __name__ == "__main__":
    main()
