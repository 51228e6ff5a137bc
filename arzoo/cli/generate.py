"""`arzoo generate`: draw pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.errors import UsageError
from arzoo.cli.options import refuse_below
from arzoo.cli.output import refuse_foreign
from arzoo.cli.repeat import repeat
from arzoo.cli.sampling import Sampling
from arzoo.cli.subjects import chosen_model


@dataclass(kw_only=True)
class Generate(Sampling):
    """Draw pictures or clips with a trained model.

    Writes one PNG per picture, or a file per clip and a page that plays them (index.html); a grid of all with their
    classes or prompts (grid.png), and run.json.
    Picture i depends only on the seed, i and its class or prompt, so it is the same for any --num and --batch.

    Ctrl-C keeps finished pictures; the same command draws those that are missing, and nothing anew if all are there.
    """

    RECORDED: ClassVar[tuple[str, ...]] = (
        *Sampling.RECORDED,
        "tokens",
        "speculate",
        "allow_inexact",
        "keep",
        "frames",
        "overlap",
        "format",
        "fps",
    )

    num: int = 16
    """Number of pictures."""
    batch: int = 16
    """Pictures per batch; changes speed and memory, not the pictures."""
    tokens: int | None = None
    """For models over ordered tokens: stop after so many tokens. By default after all, or where the model itself ends a
    picture."""
    speculate: Annotated[str | None, tyro.conf.arg(metavar="METHOD:SETTINGS")] = None
    """Read several steps in one network call, for models of codes that feed every token once, such as
    raster_emoji64; `arzoo models --kind speculation` lists the methods. jacobi:8 reads 8 steps, and its pictures are
    those of jacobi:1, up to rounding; without the option, noise of another kind draws others. Methods that draw yet
    others, alike on average, take --batch 1."""
    allow_inexact: bool = False
    """Allow methods of --speculate that change the law of the pictures (lantern, grouped)."""
    animate: bool = False
    """Write an animation beside every picture: how it looked after each step, or at 32 steps of a longer plan; what is
    not drawn yet is gray. Of a clip, its frames lie side by side."""
    animation: Literal["webp", "gif"] = "webp"
    """Format of --animate: webp, without any loss; gif, in 256 colors a frame, for programs that read no WebP."""
    format: Literal["mp4", "mp4-444", "webp", "gif", "frames"] | None = None
    """For models of clips: mp4 (the default), of twice the size so that colors stay sharp; mp4-444 of its own size,
    which not every browser plays; webp, without any loss; gif, in 256 colors a frame; frames, folders of PNG."""
    fps: float | None = None
    """Frames per second of clips; by default those of the clips that the model was trained on, or 8."""
    init: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """A picture of which a region is kept (--keep or --mask); the rest is drawn. For models of clips, a video, an
    animation, a folder of numbered pictures, or a picture, which is the first frame."""
    keep: Annotated[str | None, tyro.conf.arg(metavar="REGION|FRAMES[:REGION]")] = None
    """The region of --init to keep: top, bottom, left, right, border, center, or x,y,w,h in pixels. Of a clip, frames:
    5 (the first five), first, last (those of the last token), first,last or ranges from 0 (0-4,12-16); a region alone
    is kept in all frames."""
    mask: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Instead of --keep, for still pictures: a picture of the size of --init, or of what the model draws, that is white
    where --init is drawn anew."""
    frames: int | None = None
    """For models of clips: frames of each clip. More than the model draws at once are drawn window after window, each
    of which continues the last frames of the one before. By default as many as the model draws at once."""
    overlap: int | None = None
    """With --frames: frames that a window is given; by default at most half of its own."""
    overwrite: bool = False
    """Allow an output folder that is not empty; the files of its previous run are replaced."""
    dry_run: bool = False
    """Show settings, memory, expected time and files; computes the first steps of one batch and writes nothing."""

    examples: ClassVar = (
        "arzoo generate --class face-smiling/openmoji --num 8 --guidance 3 --out out/faces",
        'arzoo generate --prompt "red heart" "a dog, openmoji" --num 8',
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Draw and write pictures; the document names the files."""
        command, seeds = (self, None) if self.like is None else repeat(self, arguments)
        command = dataclasses.replace(command, model=chosen_model(command.model, bool(command.prompts)))
        command.check()
        refuse_foreign(command.folder, command.overwrite)  # before the model is read
        from arzoo.cli.drawing import draw

        return draw(command, arguments, seeds)

    def check(self) -> None:
        """Check the options that do not depend on the model.

        Raises:
            UsageError: A number is out of range, `init` is given without exactly one of `keep` and `mask` or one of
                them without it, both classes and prompts are, or `allow_inexact` without `speculate`.
        """
        super().check()
        refuse_below(self, num=1, batch=1)
        if sum(each is not None for each in (self.keep, self.mask)) != (self.init is not None):
            raise UsageError(
                "--init FILE goes with --keep REGION or with --mask FILE, and neither without it"
            )
        refuse_below(self, frames=1, overlap=1)
        if self.overlap is not None and self.frames is None:
            raise UsageError("--overlap goes with --frames: it says how long clips are continued")
        if self.allow_inexact and self.speculate is None:
            raise UsageError(
                "--allow-inexact goes with --speculate: without, every picture has the law of the model"
            )

    def show(self, document: dict[str, Any]) -> None:
        """Print where the pictures are."""
        count, clips = document["num"], "page" in document
        seconds, plural = document["seconds_per_picture"], "s" if count > 1 else ""
        print(f"{count} {'clip' if clips else 'picture'}{plural} in {document['folder']}, {seconds:g} s each")
        print(f"all together: {document['grid']}")
        if clips:
            print(f"to watch in a browser: {document['page']}")
        if document["animations"]:
            print(f"step by step: {document['animations'][0]}{' and so on' if count > 1 else ''}")

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self.num

    def facts(self) -> dict[str, Any]:
        """Return where the kept part of a picture comes from."""
        from arzoo.data.clip_files import content_sha256

        facts = dict[str, Any]()
        for name, file in (("init", self.init), ("mask", self.mask)):
            if file is not None:
                facts |= {name: str(Path(file).resolve()), f"{name}_sha256": content_sha256(file)}
        return facts
