"""Rollouts: pictures that a generator draws by itself, the features it drew every token from, and how they ended.

They are what value models learn from. Features are kept because the run computes them anyway: training then needs the
generator no more, and any plan will do.

Shapes: n rollouts, B of a batch, N positions, D width of the features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.estimate import expected_seconds
from arzoo.base.files import save_tensors
from arzoo.base.lock import alone
from arzoo.base.registry import called
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.core.ends import counted, first_known, from_canvas
from arzoo.core.tokens import Tokens
from arzoo.generation.drawings import Drawings
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import class_words
from arzoo.generation.request import condition
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.schedules import control_to_data
from arzoo.samplers.verifiers.base import Candidates, Subject, scores_of

FORMAT = 1
"""Version of the files."""
SHARD = 64
"""Rollouts of a file, which are drawn in one batch."""
FEW = 8
"""Rollouts of a rehearsal."""
Judge = Callable[[Tokens, Drawings, Sequence[Subject]], Tensor]
"""What a rollout is worth (B,), from its canvas, its picture and what it shows."""


@dataclass(frozen=True)
class Rollouts:
    """Finished runs.

    Attributes:
        features: (n, N, D) bfloat16, what every token was drawn from; 0 where none was drawn.
        values: (n, N, ...) the canvas.
        steps: (n, N) int16, the step that drew each token, -1 where none was drawn.
        subjects: (n,) int64, numbers of what they show.
        worth: (n,) float32, what the judge says.
    """

    features: Tensor
    values: Tensor
    steps: Tensor
    subjects: Tensor
    worth: Tensor

    def select(self, index: Tensor) -> Rollouts:
        """Copy some rollouts."""
        return Rollouts(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def subjects_of(model: Generator, captions: Sequence[str] = ()) -> list[Subject]:
    """Return what a generator can show: its classes that it was trained on, or else the given captions.

    Raises:
        ArzooError: It reads texts and there is no caption.
    """
    classes = [name for name in model.classes if name not in model.untrained.classes]
    if classes:
        return [Subject(label=name, prompt=class_words(name)) for name in classes]
    if not captions:
        raise ArzooError("the generator reads texts: name a data set with captions, such as data: emoji64")
    return [Subject(prompt=caption) for caption in dict.fromkeys(captions)]


def final_score(verifier: str, options: Mapping[str, Any]) -> Judge:
    """Return the score of a registered verifier as a judge.

    Raises:
        ArzooError: The verifier does not look at pictures, or needs what a rollout does not have.
    """

    def judge(tokens: Tokens, pictures: Drawings, subjects: Sequence[Subject]) -> Tensor:
        worth = torch.zeros(len(subjects))
        for subject in dict.fromkeys(subjects):
            rows = torch.tensor([i for i, each in enumerate(subjects) if each == subject])
            opened = open_verifier(verifier, subject, **options)
            if not opened.pictures:
                raise ArzooError(
                    f"a value model foresees the score of the final picture, and verifier {verifier!r} looks at none; "
                    "name one that does, such as class_probe or image_text"
                )
            some, count = tokens.select(rows.to(tokens.values.device)), int(tokens.known[0].sum())
            worth[rows] = scores_of(
                opened, Candidates(some, pictures[rows], None, None, count, count)
            ).float()
        return worth

    return judge


def tokens_needed(model: Generator, quality: float) -> Judge:
    """Return the number of first tokens that are enough, as a judge.

    Enough is where the mean absolute error, of pixels in [0, 1], to the picture of all tokens is at most `quality`. The
    number is found by bisection, as if the error never rose with the tokens.

    Raises:
        ArzooError: The first tokens of this generator are no picture.
    """
    if not model.spec.prefix_ok:
        raise ArzooError(
            f"pictures of this generator need all {model.spec.layout.size} tokens, so there is no length to foresee; "
            "use a generator over ordered tokens (FlexTok, KARL, One-D-Piece), or target: score"
        )

    def judge(tokens: Tokens, pictures: Drawings, subjects: Sequence[Subject]) -> Tensor:
        whole = pictures.float()
        shown = first_known(tokens)
        count = from_canvas(shown, model.spec).length if model.spec.ends else shown.length
        enough, short = count.clamp(min=1), torch.zeros_like(count)
        while bool((enough - short > 1).any()):
            middle = ((enough + short) // 2).clamp(min=1)
            first = model.decode(replace(shown, length=torch.minimum(shown.length, middle)), exact=False)
            error = (first.float() - whole).abs().flatten(1).mean(1).to(count.device) / 255
            good = error <= quality
            enough, short = torch.where(good, middle, enough), torch.where(good, short, middle)
        return enough.float().cpu()

    return judge


def identity(model: Generator, weights: Mapping[str, str], **facts: Any) -> dict[str, Any]:
    """Return everything that rollouts depend on beside their seed, as plain data.

    Args:
        model: The generator.
        weights: Hashes of its parts.
        **facts: What the judge depends on.
    """
    return {
        "format": FORMAT,
        "generator": dict(weights),
        "tokenizer": model.tokenizer_hash,
        "plan": {"name": model.plan_name, "options": model.plan_options},
        "controls": control_to_data(model.control),
        **facts,
    }


def folder_of(cache: Path, key: Mapping[str, Any], subjects: Sequence[Subject]) -> Path:
    """Return the folder of rollouts in a cache."""
    texts = [[subject.label, subject.prompt] for subject in subjects]
    digest = hashlib.sha256(json.dumps([key, texts], sort_keys=True).encode()).hexdigest()
    return cache / "rollouts" / digest[:24]


def roll_out(
    model: Generator,
    subjects: Sequence[Subject],
    judge: Judge,
    count: int,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Rollouts:
    """Draw rollouts with the knobs of the generator, or what is missing of them in a folder.

    Args:
        model: The generator.
        subjects: What it shows, in turn, equally often.
        judge: Says what each is worth.
        count: Number of rollouts.
        seed: Seed of the request.
        folder: Keeps them by shards of 64; another process that writes there is waited for.
        progress: Called with (rollouts done, rollouts to do).

    Raises:
        ArzooError: The backbone gives no features, or the judge cannot judge.
    """
    refuse_without_features(model)
    parts, first = [], 0
    with alone(folder, "draws rollouts into", wait=True):
        for path, rows in _shards(folder, subjects, count):
            part = _read(path)
            if part is None:
                seeds = [sample_seed(seed, first + i) for i in range(len(rows))]
                part = draw(model, [subjects[i] for i in rows.tolist()], rows, seeds, judge)
                save_tensors(vars(part), path)
            parts.append(part)
            first += len(rows)
            if progress:
                progress(first, count)
    return joined(parts)


def sketch(
    model: Generator, subjects: Sequence[Subject], judge: Judge, count: int, folder: Path
) -> tuple[Rollouts, float]:
    """Return the rollouts of a finished folder, or a few that stand in for all, for a rehearsal; writes nothing.

    Returns:
        The rollouts, and the expected seconds to draw those that are missing; arguments as those of `roll_out`.
    """
    refuse_without_features(model)
    shards = _shards(folder, subjects, count)
    parts = [_read(path) for path, _ in shards]
    present = [part for part in parts if part is not None]
    if len(present) == len(parts):
        return joined(present), 0.0
    rows = shards[0][1][:FEW]

    def few() -> Rollouts:
        return draw(model, [subjects[i] for i in rows.tolist()], rows, list(range(len(rows))), judge)

    stand_in = few()  # the first batch is slower than the others
    missing = count - sum(len(part.worth) for part in present)
    batches = -(-missing // len(rows))
    seconds = expected_seconds((few() for _ in range(batches)), batches)
    return stand_in.select(torch.arange(count) % len(rows)), seconds


def _shards(folder: Path, subjects: Sequence[Subject], count: int) -> list[tuple[Path, Tensor]]:
    """Files of rollouts, and the numbers of what each shows: one subject after another, for the judge's batches."""
    shards = (torch.arange(count) * len(subjects) // count).split(SHARD)
    return [(folder / f"{number:05d}-{len(rows)}.safetensors", rows) for number, rows in enumerate(shards)]


def joined(parts: Sequence[Rollouts]) -> Rollouts:
    """Return all rollouts of several parts."""
    return Rollouts(
        **{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Rollouts)}
    )


def refuse_without_features(model: Generator) -> None:
    """Check that a generator draws its tokens from features.

    Raises:
        ArzooError: Its backbone itself is the denoiser.
    """
    if "features" not in model.backbone.gives:
        raise ArzooError(
            f"a value model reads the features that tokens are drawn from, and backbone {called(model.backbone)} gives "
            "none, as it denoises the tokens itself; use a generator with a head, such as raster_emoji64"
        )


def draw(
    model: Generator, subjects: Sequence[Subject], numbers: Tensor, seeds: Sequence[int], judge: Judge
) -> Rollouts:
    """Draw one batch.

    Args:
        model: The generator.
        subjects: What each shows.
        numbers: (B,) their numbers.
        seeds: One of each.
        judge: Says what each is worth.
    """
    steps, features, step = None, None, None
    for step in model.stream(_condition(model, subjects), seeds):
        tokens, last = step.run.tokens, step.run.last
        if last is None or last.k != step.k or last.features is None:
            continue
        if steps is None or features is None:
            steps = torch.full(tokens.known.shape, -1, dtype=torch.int16)
            features = torch.zeros(*tokens.known.shape, last.features.shape[-1], dtype=torch.bfloat16)
        index = last.group.expand(len(steps), -1).cpu()
        steps.scatter_(1, index, last.k)
        new = last.features.to("cpu", torch.bfloat16)
        features.scatter_(1, index[..., None].expand_as(new), new)
    assert step is not None
    assert steps is not None
    assert features is not None
    tokens = step.run.tokens
    drawn = tokens.kept & counted(tokens.values, model.spec) if model.spec.ends else tokens.kept
    worth = judge(tokens, step.preview(exact=False), subjects)
    return Rollouts(features, tokens.values.cpu(), torch.where(drawn.cpu(), steps, -1), numbers, worth)


def _condition(model: Generator, subjects: Sequence[Subject]) -> Cond:
    if model.classes:
        return condition(model, classes=[subject.label or "" for subject in subjects])
    return condition(model, prompts=[subject.prompt or "" for subject in subjects])


def _read(path: Path) -> Rollouts | None:
    """Rollouts of a file; None if it is missing or damaged."""
    try:
        return Rollouts(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        return None
