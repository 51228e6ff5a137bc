"""Options that verbs share which draw with a generator: the model, what it draws, knobs and precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.errors import UsageError

KNOBS = (
    "guidance", "guidance_schedule", "guidance_interval", "temperature", "top_k", "top_p", "greedy", "head_steps",
    "head_schedule", "head_solver", "max_timestep", "head_window", "more_smooth",
)  # fmt: skip
"""The options that set fields of `Control`."""


@dataclass(kw_only=True)
class Sampling:
    """Options of `arzoo generate` and `arzoo search`.

    Attributes:
        RECORDED: Options that the settings in a picture record, beside its class or prompt.
        REPEATED: Verbs whose pictures `--like` takes.
    """

    RECORDED: ClassVar[tuple[str, ...]] = ("model", "seed", "precision", *KNOBS, "order", "size", "steps")
    REPEATED: ClassVar[tuple[str, ...]] = ("generate",)

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """A shipped checkpoint (see `arzoo models`), the folder of a checkpoint or training run, or hf-hub:org/name. By
    default nar_emoji64; with --prompt nar_emoji64_text, for a search ar_ordered_emoji64."""
    seed: int = 0
    """Seed of the request."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Output folder; by default out/MODEL, for a search out/MODEL_search."""
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
    more_smooth: bool = False
    """For models of the family var: mix the vectors of likely codes instead of drawing one, for smoother pictures."""
    head_steps: Annotated[str | None, tyro.conf.arg(metavar="N|A:B")] = None
    """For models of vectors: solver steps per group of tokens; A:B changes them from A to B during the run (DiSA).
    The checkpoint's by default."""
    head_schedule: Literal["linear", "cosine", "two-stage", "constant"] | None = None
    """Schedule of head steps of A:B: linear by default; two-stage is A then B, constant is B throughout."""
    head_solver: Annotated[str | None, tyro.conf.arg(metavar="SOLVER")] = None
    """For models of vectors: ddpm, ddim, dpm_solver or dpm_solver++ for a diffusion head; euler, heun or euler-maruyama
    for a flow head. The head's own by default."""
    max_timestep: Annotated[str | None, tyro.conf.arg(metavar="T|off")] = None
    """Timestep at which a diffusion head starts, 0 to 999, or off for 999. By default 950 with head steps of A:B, which
    few solver steps need, else the checkpoint's."""
    head_window: int | None = None
    """For diffusion heads with solver ddpm: steps that one call of the head checks at most, drafted with its last
    prediction. Fewer calls, more work in each, and other pictures of the same law. 1, the default, drafts nothing."""
    order: Annotated[str | None, tyro.conf.arg(name="plan", metavar="PLAN[:OPTION=VALUE,...]")] = None
    """Draw with another plan than the model was trained with, where it fits, see `arzoo models --kind plan`. A raster
    model draws several rows at once with zipar:distance=4; its pictures are approximate. By default the plan of its
    training."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Pixels of the pictures, such as 96x48, for models that take any size. By default those of its training."""
    steps: int | None = None
    """For masked models: number of steps, from 1 to the number of tokens. The checkpoint's by default."""
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
    like: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Repeat the picture or clip of a file that this command drew; other options replace its settings."""

    def check(self) -> None:
        """Check the options that do not depend on the model.

        Raises:
            UsageError: Both classes and prompts are given.
        """
        if self.classes and self.prompts:
            raise UsageError("give --class or --prompt: a picture is of a class or of what a text says")

    def knobs(self) -> dict[str, Any]:
        """Return the options that set fields of `Control`, as typed."""
        return {name: getattr(self, name) for name in KNOBS}

    def facts(self) -> dict[str, Any]:
        """Return what the settings of a picture record beside its subject and `RECORDED`."""
        return {}

    @property
    def count(self) -> int:
        """Number of pictures."""
        raise NotImplementedError

    @classmethod
    def verb(cls) -> str:
        """Return the name of the verb."""
        return cls.__name__.lower()

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.out or f"out/{Path(self.model.removeprefix('hf-hub:')).name}")
