"""`arzoo reconstruct`: encode, decode and compare pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from arzoo.base.console import note, table
from arzoo.base.errors import ArzooError, UsageError
from arzoo.cli.options import refuse_below
from arzoo.cli.output import output_folder, refuse_occupied

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.core.contracts import Tokenizer


@dataclass(kw_only=True)
class Reconstruct:
    """Encode and decode pictures with a tokenizer, side by side with the originals."""

    pictures: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURES [PICTURES ...]")
    ]
    """Picture files, folders of pictures, or one data set (its validation split)."""
    tokenizer: Annotated[str, tyro.conf.arg(metavar="TOKENIZER")]
    """A shipped tokenizer (see `arzoo models`), the folder of a checkpoint or training run, or hf-hub:org/name."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "out/reconstruct"
    """Output folder."""
    num: int = 16
    """Largest number of pictures."""
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
        "arzoo reconstruct emoji64 --tokenizer vq_emoji64 --num 32 --out out/emoji",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Compute the PSNR of every picture, and write one PNG with original and reconstruction for each."""
        refuse_below(self, num=1, batch=1)
        if not self.pictures:
            raise UsageError("name at least one picture, folder or data set")
        refuse_occupied(Path(self.out), self.overwrite)
        import torch

        from arzoo.base import estimate, runtime
        from arzoo.cli.pictures import write_png
        from arzoo.cli.tokenize import load_tokenizer
        from arzoo.viz.grid import contact_sheet

        runtime.set_threads(self.threads)
        tokenizer, weights = load_tokenizer(self.tokenizer)
        names, originals, remarks = self.read(*tokenizer.image_size)
        facts = {"tokenizer": self.tokenizer, "weights": weights[:12]}
        files = [f"{i:04d}_{Path(name).stem.replace('/', '-')}.png" for i, name in enumerate(names)]
        if self.dry_run:
            work = (rebuilt(tokenizer, rows) for rows in originals.split(self.batch))
            with torch.inference_mode():
                seconds = estimate.expected_seconds(work, -(-len(originals) // self.batch))
            return estimate.document(
                facts, self.out, [*files, "grid.png"], parameters=estimate.count(tokenizer), seconds=seconds,
                memory={"weights": estimate.tensor_bytes(tokenizer)}, pictures=len(originals),
            )  # fmt: skip
        with output_folder(self.out, self.overwrite, arguments) as output:
            with torch.inference_mode():
                decoded = torch.cat([rebuilt(tokenizer, rows) for rows in originals.split(self.batch)])
            figures: list[dict[str, Any]] = []
            pairs = torch.stack([originals, decoded], 1)
            for i, (name, pair) in enumerate(zip(names, pairs, strict=True)):
                psnr = psnr_of(pair[0], pair[1])
                path = output.path(files[i])
                write_png(path, contact_sheet(pair, columns=2), {**facts, "source": name, "psnr": psnr})
                figures.append({"picture": name, "psnr": psnr, "file": str(path)})
            sheet = contact_sheet(pairs.flatten(0, 1), columns=8)
            write_png(output.path("grid.png"), sheet, facts)
            mean = round(sum(figure["psnr"] for figure in figures) / len(figures), 3)
            output.facts |= {"config": facts, "mean_psnr": mean, "pictures": figures, "remarks": remarks}
        grid = f"{self.out}/grid.png"
        return {"folder": self.out, "grid": grid, "mean_psnr": mean, "pictures": figures, "remarks": remarks}

    def show(self, document: dict[str, Any]) -> None:
        """Print the PSNR of every picture."""
        rows = [(figure["picture"], f"{figure['psnr']:.2f} dB") for figure in document["pictures"]]
        print(table([*rows, ("mean", f"{document['mean_psnr']:.2f} dB")]))
        print(f"side by side, each and all together: {document['folder']}")

    def read(self, height: int, width: int) -> tuple[list[str], Tensor, list[str]]:
        """Read names, pictures (n, H, W, 3) uint8, and remarks; those on files are printed."""
        import torch

        from arzoo.base import registry
        from arzoo.data import load
        from arzoo.data.transforms import composite

        first = self.pictures[0]
        if len(self.pictures) > 1 or (Path(first).exists() and first not in registry.names("dataset")):
            return self.read_files(height, width)
        if Path(first).suffix:
            raise ArzooError(f"there is no file {first}")
        data = load(first, height).split("validation")
        rows = torch.linspace(0, len(data) - 1, min(self.num, len(data))).long()
        names = [
            f"{first} {data.classes[int(data.labels[row])].replace('/', '-')} {int(row)}" for row in rows
        ]
        return names, composite(data.pixels(rows)), list(data.report)

    def read_files(self, height: int, width: int) -> tuple[list[str], Tensor, list[str]]:
        """Read files and folders like `read`; damaged files of folders are skipped with a remark.

        Raises:
            ArzooError: A named file cannot be read, no file of the folders can be read, or the pictures do not fit into
                memory.
        """
        import torch

        from arzoo.base.memory import refuse_too_large
        from arzoo.cli.pictures import expand, read_picture, remarks_on

        names, pictures, skipped = [], [], []
        files, remarks = expand(self.pictures)
        count = min(self.num, len(files))
        needed = (
            4 * count * height * width * 3
        )  # originals, reconstructions, both side by side, and the sheet
        refuse_too_large(
            needed, f"{count} pictures of {height} x {width}, original and rebuilt,", "Give a smaller --num."
        )
        for file in files:
            try:
                pictures.append(read_picture(file, height, width))
                names.append(file)
            except ArzooError as error:
                if file in self.pictures:
                    raise
                skipped.append(str(error))
            if len(pictures) == self.num:
                break
        if not pictures:
            raise ArzooError(f"none of {len(skipped)} pictures can be read, the first: {skipped[0]}")
        if skipped:
            remarks.append(f"skipped {len(skipped)} damaged pictures, the first: {skipped[0]}")
        remarks += remarks_on(names, ", ".join(self.pictures))
        for remark in remarks:
            note(f"warning: {remark}")
        return names, torch.stack(pictures), remarks


def rebuilt(tokenizer: Tokenizer, pictures: Tensor) -> Tensor:
    """Encode and decode pictures (n, H, W, 3) uint8; the result has the same shape and type."""
    from arzoo.core.clips import as_clips, as_pictures
    from arzoo.data.transforms import to_model, to_uint8

    return to_uint8(as_pictures(tokenizer.decode(tokenizer.encode(as_clips(to_model(pictures))))))


def psnr_of(one: Tensor, other: Tensor) -> float:
    """Compute the peak signal-to-noise ratio in dB of two uint8 pictures; 100 if they are equal."""
    error = float((one.float() - other.float()).pow(2).mean())
    return round(10 * math.log10(255**2 / error), 3) if error else 100.0
