"""Output of a generator: clips as one tensor, and steps of the loop with a preview of their pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from arzoo.base.errors import ArzooError, some
from arzoo.core import pyramid
from arzoo.core.ends import first_known
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.generation.regions import frames_of_tokens, has_places
from arzoo.samplers.loop import Step
from arzoo.viz.clips import clip_sheet
from arzoo.viz.grid import contact_sheet
from arzoo.viz.saving import save

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


class Drawings(Tensor):
    """Clips (n, T, H, W, 3) uint8; pictures are clips of one frame, which `stills` returns without that axis.

    A tensor in every respect; operations on it return plain tensors, and so does `tensor`.

    Attributes:
        token_counts: (n,) number of tokens that each clip was decoded from.
        seeds: Seed of each clip; empty where they were not drawn but decoded.
        subjects: Class or prompt of each clip, "" where it has neither; empty where they were not drawn but decoded.
        fps: Frames per second of clips.
    """

    token_counts: Tensor
    seeds: tuple[int, ...] = ()
    subjects: tuple[str, ...] = ()
    fps: float = 8.0

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def of(
        clips: Tensor,
        token_counts: Tensor,
        seeds: Sequence[int] = (),
        subjects: Sequence[str] = (),
        fps: float = 8.0,
    ) -> Drawings:
        """Wrap a tensor (n, T, H, W, 3) uint8, of clips from so many tokens (n,)."""
        drawings = clips.as_subclass(Drawings)
        drawings.token_counts, drawings.fps = token_counts, fps
        drawings.seeds, drawings.subjects = tuple(seeds), tuple(subjects)
        return drawings

    @property
    def tensor(self) -> Tensor:
        """The plain tensor, (n, T, H, W, 3) uint8."""
        return self.as_subclass(Tensor)

    @property
    def images(self) -> list[Any]:
        """The pictures as PIL images; each clip of several frames as a list of them."""
        clips = [[Image.fromarray(frame) for frame in clip] for clip in self.tensor.cpu().numpy()]
        return [clip[0] for clip in clips] if self.shape[1] == 1 else clips

    @property
    def stills(self) -> Tensor:
        """The still pictures, (n, H, W, 3) uint8.

        Raises:
            ArzooError: The clips have more than one frame.
        """
        if self.shape[1] != 1:
            raise ArzooError(
                f"these are clips of {self.shape[1]} frames, not still pictures: the drawings themselves are a tensor "
                f"(n, T, H, W, 3), here {tuple(self.shape)}; drawings[:, t] are the pictures of frame t"
            )
        return self[:, 0]

    def save(self, folder: str | Path, overwrite: bool = False) -> list[Path]:
        """Write pictures as 0000.png, 0001.png and so on, and clips as animations 0000.webp, without any loss.

        Args:
            folder: Where to; made if absent.
            overwrite: Replace files that exist.

        Returns:
            The files.

        Raises:
            ArzooError: A file exists.
        """
        return save(self.tensor, folder, overwrite, self.fps)

    def __repr__(self) -> str:  # type: ignore[override]
        if self.dim() != 5:
            return repr(self.tensor)
        count, frames, height, width, _ = self.shape
        kind = ("picture" if frames == 1 else "clip") + "s" * (count != 1)
        kind += f" of {frames} frames" if frames > 1 else ""
        shown = some([name for name in dict.fromkeys(self.subjects) if name], 4)
        return f"<{count} {kind}, {width} x {height} pixels{': ' + shown if shown else ''}>"

    def _repr_png_(self) -> bytes | None:
        """Show still pictures in a notebook, of clips a row of frames each."""
        if self.dim() != 5 or not self.numel():
            return None
        page, clips = io.BytesIO(), self.cpu()
        (contact_sheet(clips[:, 0]) if clips.shape[1] == 1 else clip_sheet(clips)).save(page, "PNG")
        return page.getvalue()

    def __deepcopy__(self, memo: dict[int, Any]) -> Drawings:
        return Drawings.of(self.clone(), self.token_counts.clone(), self.seeds, self.subjects, self.fps)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.tensor.__reduce_ex__(protocol)  # stored as a plain tensor, which loads anywhere


GREY = 128
"""Brightness of what is not drawn yet."""


def preview(model: Generator, tokens: Tokens, most: int | None = None) -> Tokens:
    """Return the canvas that shows the tokens so far, see `DrawingStep.preview`; of ordered tokens at most `most`."""
    if model.spec.layout != model.plan().layout:  # the levels are not the tokenizer's own
        tokens = pyramid.preview(tokens, model.plan().layout)
    if not model.spec.discrete:  # of codes, the tokenizer knows the mean vector
        tokens = replace(tokens, values=torch.where(tokens.known[..., None], tokens.values, 0.0))
    return first_known(tokens, most) if model.spec.prefix_ok else tokens


def so_far(model: Generator, tokens: Tokens, most: int | None = None, exact: bool | None = None) -> Drawings:
    """Decode an unfinished canvas, see `DrawingStep.preview`."""
    canvas, spec = preview(model, tokens, most), model.tokenizer.spec
    clips = model.decode(canvas, exact)
    tokens = canvas if spec.canvas else pyramid.finest(canvas, model.plan().layout)
    layout = tokens.layout or spec.layout
    if not has_places(layout, spec) or bool(tokens.known.all()):
        return clips
    drawn = pixels_of(tokens.known.cpu(), layout, clips.shape[1:4], spec.first_alone)
    return Drawings.of(torch.where(drawn[..., None], clips.tensor, GREY), clips.token_counts, fps=clips.fps)


def pixels_of(known: Tensor, grid: Grid, shape: Sequence[int], first_alone: bool = False) -> Tensor:
    """Return the pixels (B, T, H, W) bool of a clip of shape (T, H, W) whose tokens, (B, N) on a grid, are known."""
    times = frames_of_tokens(shape[0], grid.t, first_alone)
    times_of_frames = torch.tensor([time for time, frames in enumerate(times) for _ in frames])
    rows, columns = (
        torch.arange(size) * cells // size for size, cells in zip(shape[1:], (grid.h, grid.w), strict=True)
    )
    return known.unflatten(1, grid.shape)[:, times_of_frames][:, :, rows][..., columns]


@dataclass
class DrawingStep(Step):
    """A step of `Generator.stream`. It is valid until the next step, which continues the same run.

    Attributes:
        model: The generator.
        most: Largest number of tokens to decode; None means all that are drawn.
    """

    model: Generator
    most: int | None = None

    def preview(self, exact: bool | None = None) -> Drawings:
        """Decode the pictures so far, (B, T, H, W, 3) uint8; after the last step, those of `Generator.generate`.

        Positions without a token are gray where they have a place in the picture, in a pyramid only where no level has
        one; to the decoder they are the mean vector. Of ordered tokens, the picture of the first ones is shown.
        `token_counts` of the result says how many each picture has.

        Args:
            exact: As in `Generator.decode`.
        """
        drawings = so_far(self.model, self.run.tokens, self.most, exact)
        drawings.seeds = tuple(self.run.draws.seeds)
        return drawings
