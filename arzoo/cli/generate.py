"""`arzoo generate`: draw pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.errors import UsageError
from arzoo.cli.knobs import speculation
from arzoo.cli.options import refuse_below
from arzoo.cli.output import refuse_occupied
from arzoo.cli.repeat import repeat
from arzoo.cli.subjects import chosen_model

KNOBS = (
    "guidance", "guidance_schedule", "guidance_interval", "temperature", "top_k", "top_p", "greedy", "head_steps",
    "head_schedule", "head_solver", "max_timestep",
)  # fmt: skip
"""The options that set fields of `Control`."""


@dataclass(kw_only=True)
class Generate:
    """Draw pictures with a trained model.

    Writes one PNG per picture, a grid of all pictures and run.json. Picture i depends only on the seed, i and its class
    or prompt, so it is the same for any --num and --batch.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """A shipped checkpoint (see `arzoo models`), the folder of a checkpoint or training run, or hf-hub:org/name. By
    default nar_emoji64, with --prompt nar_emoji64_text."""
    num: int = 16
    """Number of pictures."""
    seed: int = 0
    """Seed of the request."""
    batch: int = 16
    """Pictures per batch; changes speed and memory, not the pictures."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Output folder; out/MODEL by default."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(name="class", metavar="[CLASS [CLASS ...]]")] = ()
    """Class names such as face-smiling/openmoji, or their numbers from 0, used in turn; spread over all by default,
    where the model has classes. If classes are named by numbers, a number is always a name."""
    prompts: Annotated[tuple[str, ...], tyro.conf.arg(name="prompt", metavar="[TEXT [TEXT ...]]")] = ()
    """What to draw, for models that read text, each text in quotes; used in turn."""
    guidance: Annotated[str | None, tyro.conf.arg(metavar="W|A:B")] = None
    """Scale of classifier-free guidance; 1 means none; A:B changes it from A to B during the run. The checkpoint's by
    default."""
    guidance_schedule: Literal["linear", "cosine", "tokens"] | None = None
    """Schedule of a guidance of A:B: linear (the default) or cosine over the steps, or linear over the tokens (MAR)."""
    guidance_interval: Annotated[str | None, tyro.conf.arg(metavar="FROM:TO")] = None
    """Part of the run in which guidance acts, for example 0.1:0.8; the entire run by default."""
    temperature: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Sampling temperature: lower than 1 is less varied, higher is more varied. The checkpoint's by default."""
    top_k: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Draw from the k most likely codes only; 0 means all. The checkpoint's by default."""
    top_p: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Draw from the smallest set of codes with this total probability. The checkpoint's by default."""
    greedy: bool = False
    """Always take the most likely code."""
    head_steps: Annotated[str | None, tyro.conf.arg(metavar="N|A:B")] = None
    """For models of vectors: solver steps per group of tokens; A:B changes them from A to B during the run (DiSA)."""
    head_schedule: Literal["linear", "cosine", "two-stage", "constant"] | None = None
    """Schedule of head steps of A:B: linear by default; two-stage is A then B, constant is B throughout."""
    head_solver: Annotated[str | None, tyro.conf.arg(metavar="SOLVER")] = None
    """For models of vectors: ddpm, ddim, dpm_solver or dpm_solver++ for a diffusion head; euler, heun or euler-maruyama
    for a flow head. The head's own by default."""
    max_timestep: Annotated[str | None, tyro.conf.arg(metavar="T|off")] = None
    """Timestep at which a diffusion head starts, 0 to 999, or off for 999. By default 950 with head steps of A:B, which
    few solver steps need, else the checkpoint's."""
    steps: int | None = None
    """For masked models: number of steps, from 1 to the number of tokens. The checkpoint's by default."""
    tokens: int | None = None
    """For models over ordered tokens: stop after so many tokens. By default after all, or where the model itself ends a
    picture."""
    speculate: Annotated[str | None, tyro.conf.arg(metavar="jacobi:STEPS")] = None
    """Read several steps in one network call, for models of codes that feed every token once, such as
    raster_emoji64: jacobi:8 reads 8. Pictures are those of jacobi:1, step by step, up to rounding; without the option,
    noise of another kind draws others."""
    animate: bool = False
    """Write an animation beside every picture: how it looked after each step, or at 32 steps of a longer plan. It is an
    animated PNG (.apng), because GIF and lossy WebP would change colours."""
    init: Annotated[str | None, tyro.conf.arg(metavar="PICTURE")] = None
    """A picture of which a region is kept (--keep); the rest is drawn."""
    keep: Annotated[str | None, tyro.conf.arg(metavar="REGION")] = None
    """The region of --init to keep: top, bottom, left, right, border, center, or x,y,w,h in pixels."""
    tokenizer: Annotated[str | None, tyro.conf.arg(metavar="TOKENIZER")] = None
    """The model's tokenizer, if it is not where the checkpoint records it."""
    text_encoder: Annotated[str | None, tyro.conf.arg(metavar="ENCODER")] = None
    """Name or folder of the model's text encoder, if it is not what the checkpoint records."""
    precision: Literal["fp32", "bf16", "half", "int8"] = "fp32"
    """Arithmetic of the network. On a CPU the last three keep weights in fewer bits, faster for large models: half in
    float16, computing in fp32; bf16 in bfloat16 where the processor has units for it (AMX, AVX512_BF16), otherwise as
    half; int8 in 8 bits, the fastest and the least exact (an error of one percent a layer)."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps. Pictures are the same, bit for
    bit, for any --batch on a CPU; on a GPU up to rounding, which may change a code now and then."""
    threads: int = 0
    """CPU threads; 0 leaves the number as it is."""
    overwrite: bool = False
    """Allow an output folder that is not empty; the files of its previous run are replaced."""
    dry_run: bool = False
    """Show settings, memory, expected time and files; computes the first steps of one batch and writes nothing."""
    like: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """Repeat a picture that this command drew; other options replace its settings."""

    examples: ClassVar = (
        "arzoo generate --class face-smiling/openmoji --num 8 --guidance 3 --out out/faces",
        'arzoo generate --prompt "red heart" "a dog, openmoji" --num 8',
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Draw and write pictures; the document names the files."""
        command, seeds = (self, None) if self.like is None else repeat(self, arguments)
        command = dataclasses.replace(command, model=chosen_model(command.model, bool(command.prompts)))
        command.check()
        folder = Path(command.out or f"out/{Path(command.model.removeprefix('hf-hub:')).name}")
        refuse_occupied(folder, command.overwrite)  # before the model is read
        from arzoo.cli.drawing import draw

        return draw(command, folder, arguments, seeds)

    def check(self) -> None:
        """Check the options that do not depend on the model.

        Raises:
            UsageError: A number is out of range, `speculate` cannot be read, or only one of `init` and `keep` is given.
        """
        refuse_below(self, num=1, batch=1)
        if self.speculate is not None:
            speculation(self.speculate)
        if (self.init is None) != (self.keep is None):
            raise UsageError("--init PICTURE and --keep REGION go together")
        if self.classes and self.prompts:
            raise UsageError("give --class or --prompt: a picture is of a class or of what a text says")

    def show(self, document: dict[str, Any]) -> None:
        """Print where the pictures are."""
        count, each = (
            len(document["files"]) - 1 - len(document["animations"]),
            document["seconds_per_picture"],
        )
        print(f"{count} picture{'s' if count > 1 else ''} in {document['folder']}, {each:g} s each")
        print(f"all together: {document['grid']}")
        if document["animations"]:
            print(f"step by step: {document['animations'][0]}{' and so on' if count > 1 else ''}")

    def knobs(self) -> dict[str, Any]:
        """Return the options that set fields of `Control`, as typed."""
        return {name: getattr(self, name) for name in KNOBS}
