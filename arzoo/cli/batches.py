"""Pictures of `arzoo generate`, drawn and written batch by batch, so that a command that is stopped loses one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arzoo.cli.animation import animated, write_animation
from arzoo.cli.clips import clip_names, write_one
from arzoo.cli.earlier import Earlier, stopped
from arzoo.cli.facts import Requested, file_name
from arzoo.cli.output import Output
from arzoo.cli.pictures import read_picture
from arzoo.core.tokens import Tokens
from arzoo.data.clip_files import read_clip
from arzoo.generation.animation import Animation
from arzoo.generation.continuation import extended
from arzoo.generation.drawings import DrawingStep
from arzoo.samplers.speculative.base import Speculation
from arzoo.viz.settings import write_png

if TYPE_CHECKING:
    from arzoo.cli.generate import Generate

Tell = Callable[[int, int], None]
DRAWN, TOKENS = "drawn", "tokens_per_picture"
"""Entries of the record: numbers of the pictures whose files are complete, and the number of tokens of each picture."""


@dataclass
class _Steps:
    """Counts the steps of batches, of which `left` are not drawn yet; `tell` as in `Batches.draw`."""

    tell: Tell
    left: int
    done: int = 0
    now: int = 0

    def __call__(self, now: int, of_batch: int) -> None:
        self.now = now
        self.tell(self.done + now, self.done + of_batch * self.left)

    def end_batch(self) -> None:
        """Go on with the next batch."""
        self.done, self.left = self.done + self.now, self.left - 1


@dataclass(frozen=True)
class Batches(Requested):
    """What a command draws, batch by batch.

    Attributes:
        given: The canvas with the part of a picture to keep, a row per picture; None without one.
        todo: Steps of the plan that draw something.
        method: How several steps are drawn with one call of the network; None if they are not.
    """

    command: Generate
    given: Tokens | None
    todo: list[int]
    method: Speculation | None

    def draw(self, output: Output, tell: Tell, keep: int) -> list[Tensor]:
        """Draw the pictures that the folder lacks, and write each batch as soon as it is drawn.

        Args:
            output: The folder; its facts tell what is drawn. Their passes are all that were spent, also on a picture
                that was removed and is drawn again.
            tell: Called with (steps done, steps to do).
            keep: Number of pictures to return.

        Returns:
            The first pictures or clips, each (T, H, W, 3) uint8.

        Raises:
            Interrupted: Ctrl-C was pressed; the message says how to go on.
        """
        facts, before = output.facts, output.earlier.facts
        drawn = self.finished(output.earlier)
        facts |= {DRAWN: drawn, "passes": before.get("passes", 0)}
        if self.method and self.method.drafter:
            facts["draft_passes"] = before.get("draft_passes", 0)
        if self.loaded.model.spec.prefix_ok:
            facts[TOKENS] = before.get(TOKENS, [None] * self.command.num)
        finished = set(drawn)
        missing = [i for i in range(self.command.num) if i not in finished]
        chunks = [missing[i : i + self.command.batch] for i in range(0, len(missing), self.command.batch)]
        first, started, steps = dict[int, Tensor](), time.perf_counter(), _Steps(tell, len(chunks))
        try:
            for chunk in chunks:
                clips = self._batch(chunk, output, steps)
                steps.end_batch()
                first |= {i: clip for i, clip in zip(chunk, clips, strict=True) if i < keep}
                facts[DRAWN] = sorted([*facts[DRAWN], *chunk])
                output.save()
        except KeyboardInterrupt as stop:
            raise stopped(len(facts[DRAWN]), self.command.num, output.folder) from stop
        if missing:
            facts["seconds_per_picture"] = round((time.perf_counter() - started) / len(missing), 3)
        else:
            facts["seconds_per_picture"] = before.get("seconds_per_picture", 0.0)
        return [
            first[i] if i in first else self.read(output.folder, i)
            for i in range(min(keep, self.command.num))
        ]

    def finished(self, earlier: Earlier) -> list[int]:
        """Return the numbers of the pictures whose files are there as they were written."""
        return [i for i in earlier.facts.get(DRAWN, ()) if earlier.has(self.files(i))]

    def files(self, i: int) -> list[str]:
        """Return the names of all files of picture or clip i."""
        animations = [self.animation(i)] if self.command.animate else []
        return [*self.own_files(i), *animations]

    def own_files(self, i: int) -> list[str]:
        """Return the names of the files that hold picture or clip i itself."""
        if self.command.format:
            return clip_names(self.command, i, self.titles[i], self.frames)
        return [file_name(i, self.titles[i], self.command.seed)]

    def animation(self, i: int) -> str:
        """Return the name of the animation of picture or clip i."""
        return animated(file_name(i, self.titles[i], self.command.seed, ""), self.command.animation)

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return self.command.frames or self.loaded.model.tokenizer.frames

    def read(self, folder: Path, i: int) -> Tensor:
        """Read picture or clip i (T, H, W, 3) uint8 from its files, of which some formats lose a little."""
        path, size = folder / self.own_files(i)[0], self.loaded.model.image_size
        if self.command.format:
            return torch.from_numpy(
                read_clip(path.parent if self.command.format == "frames" else path, self.frames, size)
            )
        return read_picture(str(path), *size)[None]

    def _batch(self, numbers: Sequence[int], output: Output, tell: Tell) -> Tensor:
        """Draw some pictures, write their files, and add up what was spent."""
        command, rows = self.command, torch.tensor(numbers)

        def animate(row: int, frames: Tensor) -> None:
            i = numbers[row]
            write_animation(output.path(self.animation(i)), frames, self.about(i))

        animation, spent = Animation(animate, self.todo), dict[tuple[int, ...], tuple[int, int]]()

        def watch(index: Tensor, step: DrawingStep) -> None:
            spent[tuple(step.run.draws.seeds)] = step.run.passes, step.run.draft_passes
            if command.animate:
                animation.watch(index, step)

        draw = self.loaded.drawing.generate
        if command.frames is not None:
            draw = partial(extended, self.loaded.drawing, command.frames, command.overlap)
        drawings = draw(
            **self.rows(numbers),
            seeds=[self.seeds[i] for i in numbers], batch=len(numbers), control=self.loaded.knobs,
            given=None if self.given is None else self.given.select(rows), progress=tell, tokens=command.tokens,
            watch=watch, speculate=self.method,
        )  # fmt: skip
        animation.finish()
        clips = drawings.as_subclass(Tensor)
        self._write(numbers, clips, output)
        output.facts["passes"] += sum(passes for passes, _ in spent.values())
        if "draft_passes" in output.facts:
            output.facts["draft_passes"] += sum(passes for _, passes in spent.values())
        if TOKENS in output.facts:
            for i, count in zip(numbers, drawings.token_counts.tolist(), strict=True):
                output.facts[TOKENS][i] = count
        return clips

    def _write(self, numbers: Sequence[int], clips: Tensor, output: Output) -> None:
        """Write pictures or clips."""
        for i, clip in zip(numbers, clips, strict=True):
            paths = [output.path(name) for name in self.own_files(i)]
            if self.command.format:
                write_one(self.command, paths, clip, self.about(i))
            else:
                write_png(paths[0], clip[0].numpy(), self.about(i))
