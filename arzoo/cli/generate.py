"""`arzoo generate`: draw pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import note
from arzoo.base.errors import UsageError
from arzoo.base.files import file_sha256
from arzoo.cli.output import Output, output_folder, refuse_occupied
from arzoo.cli.repeat import repeat
from arzoo.cli.subjects import chosen_model, request
from arzoo.samplers.schedules import control_to_data

if TYPE_CHECKING:
    import torch

    from arzoo.core.control import Control
    from arzoo.core.tokens import Tokens
    from arzoo.generation.generator import Generator
    from arzoo.samplers.loop import Step

GRID_LIMIT = 100
LONGEST_TITLE = 48


@dataclass(kw_only=True)
class Generate:
    """Draw pictures with a trained model.

    Writes one PNG a picture, a grid of all of them and run.json. Picture i depends on the seed, i and its class or
    prompt alone, so it is the same for any --num and --batch.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """A shipped checkpoint (see `arzoo models`), the folder of a checkpoint or training run, or hf-hub:org/name. By
    default nar_emoji64, with --prompt nar_emoji64_text."""
    num: int = 16
    """How many pictures."""
    seed: int = 0
    """Seed of the request."""
    batch: int = 16
    """How many pictures at once; changes speed and memory, not the pictures."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where to write; out/MODEL by default."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(name="class", metavar="[CLASS [CLASS ...]]")] = ()
    """Class names such as face-smiling/openmoji, or their numbers from 0 on, taken in turn; spread over all by default.
    Where classes are named by numbers, a number is always a name."""
    prompts: Annotated[tuple[str, ...], tyro.conf.arg(name="prompt", metavar="[TEXT [TEXT ...]]")] = ()
    """What to draw, for models of text, each text in quotes; taken in turn."""
    guidance: Annotated[str | None, tyro.conf.arg(metavar="W|A:B")] = None
    """Scale of classifier-free guidance, 1 is off; A:B goes from A to B in the run. The checkpoint's by default."""
    guidance_schedule: Literal["linear", "cosine", "tokens"] | None = None
    """How a guidance of A:B goes from A to B: linear (the default) or cosine over the steps, or linear over the tokens
    (MAR)."""
    guidance_interval: Annotated[str | None, tyro.conf.arg(metavar="FROM:TO")] = None
    """Share of the run in which guidance acts, for example 0.1:0.8; all of it by default."""
    temperature: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Below 1 safer, above 1 more varied. The checkpoint's by default."""
    top_k: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Draw among the k most likely codes only, 0 among all. The checkpoint's by default."""
    top_p: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Draw among the fewest codes that have this probability together. The checkpoint's by default."""
    greedy: bool = False
    """Always take the most likely code."""
    head_steps: Annotated[str | None, tyro.conf.arg(metavar="N|A:B")] = None
    """For models of vectors: solver steps for every group of tokens; A:B goes from A to B in the run (DiSA)."""
    head_schedule: Literal["linear", "cosine", "two-stage", "constant"] | None = None
    """How head steps of A:B go from A to B: linear by default; two-stage is A then B, constant is B throughout."""
    head_solver: Annotated[str | None, tyro.conf.arg(metavar="SOLVER")] = None
    """For models of vectors: ddpm, ddim, dpm_solver or dpm_solver++ for a diffusion head; euler, heun or euler-maruyama
    for a flow head. The head's own by default."""
    max_timestep: Annotated[str | None, tyro.conf.arg(metavar="T|off")] = None
    """Where a diffusion head starts, of 0 to 999; 950 by default when head steps go from A to B, as few steps need it,
    else the checkpoint's. off starts at the end."""
    steps: int | None = None
    """For masked models: in how many steps the tokens are drawn, 1 to their number. The checkpoint's by default."""
    init: Annotated[str | None, tyro.conf.arg(metavar="PICTURE")] = None
    """A picture of which a region stays (--keep) while the rest is drawn."""
    keep: Annotated[str | None, tyro.conf.arg(metavar="REGION")] = None
    """What stays of --init: top, bottom, left, right, border, center, or x,y,w,h in pixels."""
    tokenizer: Annotated[str | None, tyro.conf.arg(metavar="TOKENIZER")] = None
    """Where the model's tokenizer is, if not where the checkpoint says."""
    text_encoder: Annotated[str | None, tyro.conf.arg(metavar="ENCODER")] = None
    """Name or folder of the model's text encoder, if not what the checkpoint says."""
    precision: Literal["fp32", "bf16", "half", "int8"] = "fp32"
    """Arithmetic of the network. On a CPU the last three keep weights in fewer bits, faster for large models: half in
    float16, computing in fp32; bf16 in bfloat16 where the processor has units for it (AMX, AVX512_BF16), otherwise as
    half; int8 in 8 bits, the fastest and the least exact (an error of one percent a layer)."""
    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps. Pictures are the same, bit for
    bit, for any --batch on a CPU; on a GPU up to rounding, which may change a code now and then."""
    threads: int = 0
    """CPU threads, 0 leaves the number as it is."""
    overwrite: bool = False
    """Allow an output folder that is not empty; the files of its previous run are replaced."""
    dry_run: bool = False
    """Show settings, memory, expected time and files; draws the first steps of one batch and writes nothing."""
    like: Annotated[str | None, tyro.conf.arg(metavar="PNG")] = None
    """Repeat a picture that this command made; options beside it change what they say."""

    examples: ClassVar = (
        "arzoo generate --class face-smiling/openmoji --num 8 --guidance 3 --out out/faces",
        'arzoo generate --prompt "red heart" "a dog, openmoji" --num 8',
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Draw and write; the document names the files."""
        wanted, seeds = (self, None) if self.like is None else repeat(self, arguments)
        wanted = dataclasses.replace(wanted, model=chosen_model(wanted.model, bool(wanted.prompts)))
        wanted.check()
        folder = Path(wanted.out or f"out/{Path(wanted.model.removeprefix('hf-hub:')).name}")
        refuse_occupied(folder, wanted.overwrite)  # before the model is read
        return wanted.draw(folder, arguments, seeds)

    def check(self) -> None:
        """Refuse what no model can do.

        Raises:
            UsageError: A number is out of range, or only one of `init` and `keep` is given.
        """
        for name, value in (("num", self.num), ("batch", self.batch)):
            if value < 1:
                raise UsageError(f"--{name} must be at least 1, got {value}")
        if (self.init is None) != (self.keep is None):
            raise UsageError("--init PICTURE and --keep REGION go together")
        if self.classes and self.prompts:
            raise UsageError("give --class or --prompt: a model draws either classes or what a text says")

    def place(self) -> torch.device:
        """Where to compute.

        Raises:
            UsageError: The precision is not for the device.
        ArzooError: This machine has no such device.
        """
        from arzoo.base import runtime

        packs = self.precision in ("half", "int8")
        device = runtime.choose_device("cpu" if packs and self.device == "auto" else self.device)
        if packs and device.type != "cpu":
            raise UsageError(
                f"--precision {self.precision} packs weights for CPUs; with --device {self.device} use fp32 or bf16"
            )
        return device

    def draw(self, folder: Path, arguments: list[str], seeds: list[int] | None) -> dict[str, Any]:
        """Load the model, draw, write everything."""
        import torch

        from arzoo.base import runtime
        from arzoo.base.console import progress
        from arzoo.cli.knobs import control, idle, misuse
        from arzoo.cli.pictures import remarks_on
        from arzoo.generation.effort import head_calls, open_steps, with_steps
        from arzoo.generation.generator import Generator

        runtime.set_threads(self.threads)
        device = self.place()
        model = Generator.load(self.model, self.tokenizer, self.text_encoder).to(device)
        if self.steps is not None:
            with misuse():
                model = with_steps(model, self.steps)
        knobs = control(model.control, self.knobs(), model.tokenizer.spec.discrete)
        for remark in idle(model, self.knobs(), knobs):
            note(remark)
        asked, titles = request(self, model)
        seeds = seeds or [runtime.sample_seed(self.seed, i) for i in range(self.num)]
        given = self.given(model)
        order = model.plan(seeds[:1], None if given is None else given.given[:1].cpu())
        todo = open_steps(order, given)
        # What does not fit is refused before anything is written; it was typed, unless it is the checkpoint's own.
        with misuse() if knobs != model.control else contextlib.nullcontext():
            calls = head_calls(model, order, knobs, todo)
        low = contextlib.nullcontext()
        drawing = model
        if device.type == "cpu" and self.precision != "fp32":
            drawing = model.packed("fp16" if self.precision == "half" else self.precision)
        elif self.precision == "bf16":
            low = torch.autocast(device.type, runtime.choose_dtype(self.precision))  # type: ignore[assignment]
        if self.dry_run:
            with low, without_remarks():
                return self.plan(folder, drawing, asked, titles, seeds, knobs, given, len(todo))
        with output_folder(folder, self.overwrite, arguments) as output:
            started = time.perf_counter()
            with progress("drawing", "network calls") as tell, low, without_remarks():
                images = drawing.generate(
                    **asked, seeds=seeds, batch=self.batch, control=knobs, given=given, progress=tell
                ).images
            seconds = time.perf_counter() - started
            settings = self.settings(model)
            self.write(output, images, titles, seeds, settings)
            output.facts |= {
                "config": settings,
                "seconds_per_picture": round(seconds / self.num, 3),
                "plan_options": model.plan_options,
                "controls": control_to_data(knobs),
                "network_calls": len(todo) * -(-self.num // self.batch),
                "head_calls_per_picture": calls,
                **({} if self.init is None else {"remarks": remarks_on([self.init], self.init)}),
            }
        files = [str(folder / name) for name in output.files]
        return {"folder": str(folder), "grid": str(folder / "grid.png"), "files": files, **output.facts}

    def plan(
        self,
        folder: Path,
        model: Generator,
        asked: dict[str, Any],
        titles: list[str],
        seeds: list[int],
        knobs: Control,
        given: Tokens | None,
        calls: int,
    ) -> dict[str, Any]:
        """What would be drawn, from the first of the `calls` steps of the first batch."""
        import torch

        from arzoo.base import estimate
        from arzoo.generation.request import condition

        rows = torch.arange(min(self.batch, self.num))
        cond = condition(model, **{name: of[: len(rows)] for name, of in asked.items()}).to(model.device)
        tokens = None if given is None else given.select(rows)
        last: deque[Step] = deque(maxlen=1)  # its run holds the canvas and the caches
        batches = -(-self.num // self.batch)
        steps = map(last.append, model.stream(cond, seeds[: len(rows)], knobs, tokens))
        drawing = estimate.measured(steps, calls) * batches
        canvas = last[0].run.tokens
        decoding = estimate.measured((model.decode(canvas.select(row)) for row in rows.split(1)), self.num)
        encoder = [model.text.encoder] if model.text else []
        weights = (model.tokenizer, model.backbone, *model.heads, *encoder)
        memory = {"weights": estimate.tensor_bytes(*weights), "caches": estimate.tensor_bytes(last[0].run)}
        names = [self.file_name(i, title) for i, title in enumerate(titles)]
        return estimate.plan(
            self.settings(model), str(folder), [*names, "grid.png"], device=str(model.device),
            parameters=estimate.count(*weights), memory=memory, seconds=drawing + decoding, pictures=self.num,
            batch=self.batch, network_calls=calls * batches,
        )  # fmt: skip

    def file_name(self, i: int, title: str) -> str:
        """Name of picture i; its class or prompt in letters, digits and dashes, short enough for any file system."""
        words = re.sub(r"[^\w.-]+", "-", title)[:LONGEST_TITLE].strip("-.")
        return "_".join(filter(None, [f"{i:04d}", words, f"seed{self.seed}.png"]))

    def show(self, document: dict[str, Any]) -> None:
        """Where the pictures are."""
        count, each = len(document["files"]) - 1, document["seconds_per_picture"]
        print(f"{count} picture{'s' if count > 1 else ''} in {document['folder']}, {each:g} s each")
        print(f"all together: {document['grid']}")

    def knobs(self) -> dict[str, Any]:
        """The options that become a `Control`."""
        names = (
            "guidance",
            "guidance_schedule",
            "guidance_interval",
            "temperature",
            "top_k",
            "top_p",
            "greedy",
            "head_steps",
            "head_schedule",
            "head_solver",
            "max_timestep",
        )
        return {name: getattr(self, name) for name in names}

    def given(self, model: Generator) -> Tokens | None:
        """The canvas with the kept part of `init`, the same for every picture."""
        if self.init is None or self.keep is None:
            return None
        import torch

        from arzoo.cli.pictures import read_picture, remarks_on
        from arzoo.cli.regions import kept_pixels, kept_tokens
        from arzoo.core.clips import as_clips
        from arzoo.core.layout import Grid
        from arzoo.core.tokens import Tokens
        from arzoo.data.transforms import to_model
        from arzoo.generation import fit

        layout, size = model.tokenizer.spec.layout, model.tokenizer.image_size
        if not isinstance(layout, Grid) or layout.t != 1:
            raise UsageError(
                f"--init needs a model whose tokens lie on a grid of one frame; {self.model} has {layout}"
            )
        kept = kept_tokens(kept_pixels(self.keep, *size), layout)
        with torch.inference_mode():
            picture = to_model(read_picture(self.init, *size)[None]).to(model.device)
            values = model.tokenizer.encode(as_clips(picture)).values
        for remark in (*remarks_on([self.init], self.init), *fit.notes(model.backbone, model.plan())):
            note(remark)
        return Tokens.of(
            values.expand(self.num, *values.shape[1:]), kept.to(values.device).expand(self.num, -1)
        )

    def settings(self, model: Generator) -> dict[str, Any]:
        """What the pictures have in common, as plain data."""
        from arzoo.checkpoints.folder import weights_sha256

        names = ("model", "seed", "precision", *self.knobs(), "steps", "keep")
        facts: dict[str, Any] = {name: getattr(self, name) for name in names}
        facts |= {"plan": model.plan_name, "tokenizer": model.tokenizer_hash[:12]}
        if model.text is not None:
            facts["text_encoder"] = f"{model.text.name} {model.text.sha256[:12]}"
        facts["device"] = model.device.type
        facts["weights"] = weights_sha256(model.backbone)[:12]
        if self.init is not None:
            facts |= {"init": str(Path(self.init).resolve()), "init_sha256": file_sha256(self.init)}
        return facts

    def write(
        self,
        output: Output,
        images: torch.Tensor,
        titles: list[str],
        seeds: list[int],
        settings: dict[str, Any],
    ) -> None:
        """PNGs and the grid."""
        from arzoo.cli.pictures import write_png
        from arzoo.viz.grid import contact_sheet

        what, all_of_them = ("prompt", "prompts") if self.prompts else ("class", "classes")
        for i, (picture, title, seed) in enumerate(zip(images.numpy(), titles, seeds, strict=True)):
            name = self.file_name(i, title)
            write_png(output.path(name), picture, {**settings, what: title, "index": i, "sample_seed": seed})
        sheet = contact_sheet(images[:GRID_LIMIT])
        write_png(
            output.path("grid.png"), sheet, {**settings, all_of_them: titles[:GRID_LIMIT], "num": self.num}
        )


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Without warnings about prompts, which were noted before."""
    from arzoo.generation.prompts import PromptRemark

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptRemark)
        yield
