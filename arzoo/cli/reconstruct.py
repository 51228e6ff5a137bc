"""`arzoo reconstruct`: encode, decode and compare pictures or clips."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import note, table
from arzoo.base.errors import UsageError
from arzoo.cli.earlier import Earlier
from arzoo.cli.options import refuse_below
from arzoo.cli.output import output_folder, refuse_foreign

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Reconstruct:
    """Encode and decode pictures or clips with a tokenizer, side by side with the originals.

    Below every reconstruction stand its number of tokens and its PSNR. A clip is a row of frames, and its PSNR the mean
    over them. The same command once more computes nothing anew.
    """

    pictures: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURES [PICTURES ...]")
    ]
    """Picture files, folders of pictures, or one data set (its validation split). For a tokenizer of clips also videos,
    animations, folders of them, and folders of numbered pictures: their first frames."""
    tokenizer: Annotated[str, tyro.conf.arg(metavar="TOKENIZER")]
    """A shipped tokenizer (see `arzoo models`), the folder of a checkpoint or training run, or hf-hub:org/name."""
    tokens: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[N ...]")] = ()
    """For ordered tokens: one reconstruction from the first N tokens, for every N; from all by
    default."""
    quality: Annotated[tuple[float, ...], tyro.conf.arg(metavar="[ERROR ...]")] = ()
    """For adaptive tokens: one reconstruction for every acceptable mean absolute error of pixels in 0..1; the number of
    tokens follows. The tokenizer's own by default."""
    sizes: Literal["square", "keep"] = "square"
    """Whether pictures are cropped to the tokenizer's size, or keep their shapes, for tokenizers of any size."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "out/reconstruct"
    """Output folder."""
    num: int = 16
    """Largest number of pictures or clips."""
    batch: int = 16
    """Pictures per batch."""
    threads: int = 0
    """CPU threads; 0 leaves the number as it is."""
    overwrite: bool = False
    """Allow an output folder that is not empty; the files of its previous run are replaced."""
    dry_run: bool = False
    """Show settings, memory, expected time and files; computes one batch and writes nothing."""

    examples: ClassVar = (
        "arzoo reconstruct photo.png drawings/ --tokenizer runs/vq",
        "arzoo reconstruct photos/ --tokenizer runs/anyres --sizes keep",
        "arzoo reconstruct emoji64 --tokenizer runs/ordered --tokens 1 2 4 8 16 32 --out out/prefixes",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Compute tokens and PSNR of every picture, and write a PNG with original and reconstructions for each."""
        refuse_below(self, num=1, batch=1)
        if not self.pictures:
            raise UsageError("name at least one picture, folder or data set")
        refuse_foreign(Path(self.out), self.overwrite)
        import torch

        from arzoo.base import estimate, runtime
        from arzoo.cli.originals import read
        from arzoo.cli.tokenize import load_tokenizer
        from arzoo.data.any_size import same_rows
        from arzoo.data.pictures import by
        from arzoo.metrics.rate import Rate, rates
        from arzoo.metrics.strips import StripsBySize, bytes_of, rebuild, strips
        from arzoo.tokenizers.common.resolution import sizes_of
        from arzoo.viz.settings import write_png

        runtime.set_threads(self.threads)
        tokenizer, weights = load_tokenizer(self.tokenizer)
        asked = rates(tokenizer, self.tokens, self.quality)
        each = asked or [Rate()]
        sizes = sizes_of(tokenizer) if self.sizes == "keep" else None
        size, frames = tokenizer.image_size, tokenizer.frames
        largest = size if sizes is None else (math.isqrt(sizes.most),) * 2
        names, originals, remarks = read(
            self.pictures,
            self.num,
            (frames, *size),
            lambda count: bytes_of(count, *largest, len(each)),
            sizes,
        )
        places = same_rows(torch.tensor([picture.shape for picture in originals]))
        by_size = [torch.stack([originals[place] for place in some.tolist()]) for some in places]
        facts: dict[str, Any] = {"tokenizer": self.tokenizer, "weights": weights[:12]}
        options = {"tokens": list(self.tokens), "quality": list(self.quality)}
        facts |= {name: numbers for name, numbers in options.items() if numbers}
        facts |= {"sizes": self.sizes} if sizes is not None else {}
        files = [f"{i:04d}_{Path(name).stem.replace('/', '-')}.png" for i, name in enumerate(names)]
        request = {"verb": "reconstruct", **facts, "pictures": names, "sha256_of_pictures": digest(originals)}
        earlier = Earlier(Path(self.out), request) if self.overwrite else Earlier.of(Path(self.out), request)
        if self.dry_run:
            batches = [rows for pictures in by_size for rows in pictures.split(self.batch)]
            with torch.inference_mode():
                work = (rebuild(tokenizer, rows, rate) for rows in batches for rate in each)
                seconds = estimate.expected_seconds(work, len(batches) * len(each))
            return estimate.document(
                facts, self.out, [*files, "grid.png"], parameters=estimate.count(tokenizer), seconds=seconds,
                memory={"weights": estimate.tensor_bytes(tokenizer)}, pictures=len(originals),
            )  # fmt: skip
        if earlier.finished:
            note(f"{self.out} holds these reconstructions already: nothing is computed anew")
            return document_of(self.out, earlier.facts)
        with output_folder(self.out, self.overwrite, arguments, earlier=earlier) as output:
            result = StripsBySize(
                places, [strips(tokenizer, pictures, each, self.batch) for pictures in by_size]
            )
            pictures: list[dict[str, Any]] = []
            for i, (name, file) in enumerate(zip(names, files, strict=True)):
                figures = result.figures(i)
                about = {"reconstructions": figures} if asked else figures[0]
                if sizes is not None:
                    about |= {"size": by(originals[i].shape[1::-1])}
                write_png(output.path(file), result.sheet(i), {**facts, "source": name, **about})
                pictures.append({"picture": name, **about, "file": file})
            write_png(output.path("grid.png"), result.sheet(), facts)
            means = result.means()
            mean = {"means": means} if asked else {f"mean_{name}": value for name, value in means[0].items()}
            output.facts |= {"config": facts, **mean, "pictures": pictures, "remarks": remarks}
        return document_of(self.out, output.facts)

    def show(self, document: dict[str, Any]) -> None:
        """Print tokens and PSNR of every picture."""
        means = document.get("means") or [{"tokens": document["mean_tokens"], "psnr": document["mean_psnr"]}]
        rows = [(entry["picture"], entry.get("reconstructions", [entry])) for entry in document["pictures"]]
        print(table((name, *map(_words, figures)) for name, figures in [*rows, ("mean", means)]))
        print(f"side by side, each and all together: {document['folder']}")


def document_of(folder: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a command that recorded these facts."""
    own = {name: fact for name, fact in facts.items() if name != "config"}
    # A record may lie where its folder was moved to, and may be an older one, which has paths.
    pictures = [{**each, "file": str(Path(folder) / Path(each["file"]).name)} for each in facts["pictures"]]
    return {"folder": folder, "grid": f"{folder}/grid.png", **own, "pictures": pictures}


def digest(pictures: Iterable[Tensor]) -> str:
    """Return the first digits of the hash of pixels."""
    return hashlib.sha256(b"".join(picture.numpy().tobytes() for picture in pictures)).hexdigest()[:12]


def _words(figure: dict[str, Any]) -> str:
    return f"{figure['tokens']:g} tokens {figure['psnr']:.2f} dB"
