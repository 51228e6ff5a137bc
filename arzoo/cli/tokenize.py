"""`arzoo tokenize`: encode a data set for training."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.errors import ArzooError
from arzoo.cli.options import refuse_below
from arzoo.cli.output import is_untouched, output_folder, refuse_occupied

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.core.contracts import Tokenizer
    from arzoo.data.base import ImageSet
    from arzoo.data.views import Views


@dataclass(kw_only=True)
class Tokenize:
    """Encode a data set once, so that generators can be trained on its tokens.

    Writes OUT/train and OUT/validation, keyed by the hashes of tokenizer and data. The same command continues an
    interrupted one. Train on the result with: arzoo train RECIPE --codes OUT

    Where the number of tokens follows the picture, OUT/complexity.png shows pictures from few to many tokens, and
    OUT/tokens.csv has the number of each.
    """

    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """A data set (see `arzoo data ls`), or a folder of pictures or clips."""
    tokenizer: Annotated[str, tyro.conf.arg(metavar="TOKENIZER")]
    """A shipped tokenizer (see `arzoo models`), the folder of a checkpoint or training run, or hf-hub:org/name."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Output folder."""
    variants: int = 0
    """Number of randomly augmented copies of every training picture beside the clean one."""
    views: Literal["augment", "flip", "ten_crop"] = "augment"
    """Copies of a training picture: those of --variants, its mirror image, or ten crops of the enlarged picture."""
    quality: float | None = None
    """For ordered and adaptive tokenizers: acceptable mean absolute error of pixels in [0, 1], which the number of
    tokens of a picture follows. By default the tokenizer's own, or all tokens."""
    sizes: Literal["square", "keep"] = "square"
    """Whether pictures are cropped to the tokenizer's size, or keep their shapes, for tokenizers of any size."""
    fps: float | None = None
    """For folders of clips: frames per second to which files are resampled; by default every frame is taken."""
    stride: int | None = None
    """For folders of clips: frames from clip to clip of one file; by default clips follow each other."""
    limit: int = 0
    """Number of pictures or clips to encode; 0 means all."""
    batch: int = 64
    """Pictures or clips per batch, at most 64."""
    threads: int = 0
    """CPU threads; 0 leaves the number as it is."""
    overwrite: bool = False
    """Replace other codes in the output folder."""
    dry_run: bool = False
    """Show settings, memory, expected time and files; encodes one batch and writes nothing."""

    examples: ClassVar = (
        "arzoo tokenize emoji64 --tokenizer vq_emoji64 --out codes/emoji64",
        "arzoo tokenize my_pictures/ --tokenizer runs/vq --variants 7 --out codes/mine",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Encode both splits; the document has shapes and keys."""
        refuse_below(self, variants=0, limit=0, batch=1)
        clear(Path(self.out), self.overwrite)
        import torch

        from arzoo.base import runtime
        from arzoo.base.console import progress
        from arzoo.cli.complexity import write_complexity
        from arzoo.data import load, source
        from arzoo.data.encoding import cache_files, code_key, encode_split
        from arzoo.metrics.rate import rates
        from arzoo.tokenizers.common.resolution import sizes_of
        from arzoo.train.clips import noun

        runtime.set_threads(self.threads)
        tokenizer, weights = load_tokenizer(self.tokenizer)
        if self.quality is not None:
            rates(tokenizer, qualities=[self.quality])  # refuses what the tokenizer does not take
        size, facts = tokenizer.image_size[0], dict[str, Any]()
        sizes = sizes_of(tokenizer) if self.sizes == "keep" else None
        data = load(self.data, size, tokenizer.frames, self.fps, self.stride, sizes)
        if self.limit:
            data = data.select(torch.linspace(0, len(data) - 1, min(self.limit, len(data))).long())
        if self.dry_run:
            return self.estimate(tokenizer, weights, data)
        counts: dict[str, Tensor] = {}
        with output_folder(self.out, self.overwrite, arguments, resume=True, doing="encodes into") as output:
            for split, pictures, views in self.splits(data):
                folder, started = output.folder / split, time.perf_counter()
                if self.overwrite:
                    remove_other(folder, code_key(tokenizer, weights, pictures, views, self.quality))
                with progress(f"encoding {split}", f"{noun(data.frames)}s") as tell:
                    codes = encode_split(
                        folder, tokenizer, weights, pictures, views, self.batch, tell, source(self.data),
                        quality=self.quality,
                    )  # fmt: skip
                seconds = round(time.perf_counter() - started, 3)
                names = (f"{split}/{name}" for name in cache_files(len(pictures), views))
                output.files |= dict.fromkeys(names)
                most = codes.spec.layout.size if codes.grids is None else int(codes.token_counts().max())
                shape = [codes.variants, len(codes.labels), most, *codes.spec.token_shape]
                facts[split] = {
                    "shape": shape,
                    "frames": data.frames,
                    **codes.key,
                    "shards": len(codes.shards),
                    "seconds": seconds,
                }
                if codes.variable or codes.grids is not None:
                    facts[split]["tokens"] = summary(codes.token_counts())
                if codes.grids is not None:
                    facts[split]["grids"] = len(codes.grids.unique(dim=0))
                if codes.variable:
                    counts[split] = codes.token_counts()
            if counts:
                all_counts = torch.empty(len(data), dtype=torch.long)
                for split, of_split in counts.items():
                    all_counts[data.held_out == (split == "validation")] = of_split
                write_complexity(output, data, all_counts, self.tokenizer)
            output.facts |= {**facts, "remarks": list(data.report)}
        return {"folder": self.out, **facts}

    def splits(self, data: ImageSet) -> list[tuple[str, ImageSet, Views]]:
        """Return name, pictures and views of the splits that have pictures."""
        from arzoo.data.views import Views

        views = {"train": Views(self.views, self.variants), "validation": Views()}
        return [(split, part, views[split]) for split in views if len(part := data.split(split))]

    def estimate(self, tokenizer: Tokenizer, weights: str, data: ImageSet) -> dict[str, Any]:
        """Return the estimate of a dry run, measured on one batch or more."""
        import torch

        from arzoo.base import estimate
        from arzoo.cli.complexity import SHEET, TABLE
        from arzoo.core.clips import as_clips
        from arzoo.data.encoding import cache_files, grids_of, is_variable
        from arzoo.data.transforms import composite, to_model
        from arzoo.tokenizers.common.lengths import encoded
        from arzoo.train.clips import noun

        splits = self.splits(data)
        files = [f"{split}/{name}" for split, part, views in splits for name in cache_files(len(part), views)]
        if is_variable(tokenizer, self.quality):
            files += [SHEET, TABLE]
        total = sum(len(part) * views.count for _, part, views in splits)
        first = torch.arange(len(data)).split(self.batch)
        batches = [rows[places] for rows in first for places in data.by_size(rows)]
        with torch.inference_mode():
            clips = (as_clips(to_model(composite(data.pixels(rows)))) for rows in batches)
            work = (encoded(tokenizer, each, self.quality) for each in clips)
            seconds = estimate.expected_seconds(work, -(-total * len(batches) // len(data)))
        config = {
            "data": self.data,
            "data_sha256": data.sha256,
            "tokenizer": self.tokenizer,
            "weights": weights,
        }
        grids = grids_of(tokenizer, data)
        count = tokenizer.spec.layout.size if grids is None else summary(grids.prod(1))
        tokens: dict[str, Any] = {f"tokens_per_{noun(data.frames)}": count}
        return estimate.document(
            config, self.out, files, parameters=estimate.count(tokenizer), seconds=seconds, encodings=total,
            memory={"weights": estimate.tensor_bytes(tokenizer)}, **tokens,
        )  # fmt: skip

    def show(self, document: dict[str, Any]) -> None:
        """Print the shapes."""
        from arzoo.train.clips import noun

        for split, facts in document.items():
            if isinstance(facts, dict):
                copies, number, count, *token = facts["shape"]
                size = "".join(f" of {numbers} numbers" for numbers in token)
                each = f"{count} tokens{size} each"
                if "tokens" in facts:
                    least, mean, most = (facts["tokens"][name] for name in ("min", "mean", "max"))
                    each = f"{least} to {most} of {count} tokens{size}, {mean:g} on average"
                what = f"{number} {noun(facts['frames'])}{'s' * (number != 1)}"
                views = f"{copies} view{'s' * (copies != 1)}"
                print(f"{split}: {what} in {views}, {each}, {facts['seconds']:g} s")
        print(f"in {document['folder']}")


def summary(counts: Tensor) -> dict[str, float]:
    """Return the smallest, mean and largest of numbers of tokens (n,)."""
    return {
        "min": int(counts.min()),
        "mean": round(float(counts.float().mean()), 2),
        "max": int(counts.max()),
    }


def clear(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything but codes to continue.

    Raises:
        ArzooError: The folder holds other files and may not be overwritten.
    """
    codes = any((folder / split / "index.json").exists() for split in ("train", "validation"))
    if not codes and not (folder.is_dir() and is_untouched(folder)):
        refuse_occupied(folder, overwrite)


def remove_other(folder: Path, key: dict[str, Any]) -> None:
    """Remove a code cache that cannot be continued."""
    from arzoo.data.codes import read_index

    try:
        index = read_index(folder)
    except ArzooError:
        index = {"key": None}
    if index is not None and index["key"] != key:
        shutil.rmtree(folder)


def load_tokenizer(name: str) -> tuple[Tokenizer, str]:
    """Load a tokenizer in evaluation mode, and the hash of its weights."""
    from arzoo.checkpoints.folder import open_checkpoint
    from arzoo.core.contracts import Tokenizer

    checkpoint = open_checkpoint(name, "tokenizer")
    tokenizer = checkpoint.load("tokenizer").requires_grad_(False)
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer, checkpoint.parts["tokenizer"]["weights"]
