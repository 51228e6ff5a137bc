"""`arzoo describe`: say in words what pictures show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import tyro

from arzoo.base.console import progress, table
from arzoo.base.errors import UsageError
from arzoo.cli.options import refuse_below

BYTES = 32
"""Memory per pixel of a picture while it is encoded."""


@dataclass(kw_only=True)
class Describe:
    """Say in words what pictures show, with a model that was trained in both directions.

    A recipe trains such a model with generator.describe=0.5: it draws what a text says, and says what a picture shows.
    """

    pictures: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURES [PICTURES ...]")
    ]
    """Picture files, folders of pictures, or one data set (its validation split)."""
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")]
    """The folder of a checkpoint or training run, or hf-hub:org/name."""
    num: int = 16
    """Largest number of pictures."""
    seed: int = 0
    """Seed of the request, where words are drawn."""
    temperature: float | None = None
    """Draw each letter, lower than 1 less and higher more varied. By default it is the likeliest one."""
    top_k: int | None = None
    """Draw from the k most likely letters only; 0 means all."""
    top_p: float | None = None
    """Draw from the smallest set of letters with this total probability."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Pixels in which pictures are read, such as 96x48. By default those of the model's training."""
    tokenizer: Annotated[str | None, tyro.conf.arg(metavar="TOKENIZER")] = None
    """The model's tokenizer, if it is not where the checkpoint records it."""
    text_encoder: Annotated[str | None, tyro.conf.arg(metavar="ENCODER")] = None
    """Name or folder of the model's text encoder, if it is not what the checkpoint records."""
    batch: int = 16
    """Pictures per batch."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps."""
    threads: int = 0
    """CPU threads; 0 leaves the number as it is."""

    examples: ClassVar = (
        "arzoo describe photo.png drawings/ --model runs/longcat",
        "arzoo describe emoji64 --model runs/longcat --temperature 0.7 --seed 3",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Describe each picture."""
        refuse_below(self, num=1, batch=1)
        if not self.pictures:
            raise UsageError("name at least one picture, folder or data set")
        import torch

        from arzoo.base import runtime
        from arzoo.cli.knobs import misuse, size_of
        from arzoo.cli.originals import read
        from arzoo.core.control import check_knob
        from arzoo.generation.describer import Describer
        from arzoo.generation.generator import Generator

        knobs = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p")}
        knobs = {name: value for name, value in knobs.items() if value is not None}
        with misuse():
            for name, value in knobs.items():
                check_knob(name, value, f"--{name.replace('_', '-')} {value:g}")
        runtime.set_threads(self.threads)
        model = Generator.load(self.model, self.tokenizer, self.text_encoder).to(self.device)
        Describer(model.backbone)  # refuses before pictures are read
        if self.size is not None:
            with misuse():
                model = model.with_size(*size_of(self.size))
        height, width = model.image_size
        names, pictures, remarks = read(
            self.pictures, self.num, (1, height, width), lambda count: BYTES * count * height * width
        )
        pixels = torch.stack(pictures)
        texts, seeds = list[str](), [runtime.sample_seed(self.seed, i) for i in range(len(names))]
        with progress("describing", "pictures") as report:
            for first in range(0, len(names), self.batch):
                rows = slice(first, first + self.batch)
                texts += model.describe(pixels[rows], seeds=seeds[rows], batch=self.batch, **knobs)
                report(len(texts), len(names))
        shown = [{"picture": name, "text": text} for name, text in zip(names, texts, strict=True)]
        return {"model": self.model, "seed": self.seed, **knobs, "texts": shown, "remarks": remarks}

    def show(self, document: dict[str, Any]) -> None:
        """Print the text of each picture, without letters that a terminal would obey."""
        rows = [(each["picture"], _printable(each["text"])) for each in document["texts"]]
        print(table(rows))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
