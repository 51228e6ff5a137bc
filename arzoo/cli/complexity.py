"""What `arzoo tokenize` says about pictures of unlike numbers of tokens: a sheet of the ranking, and a table."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from arzoo.base.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.cli.output import Output
    from arzoo.data.base import ImageSet

SHEET, TABLE = "complexity.png", "tokens.csv"


def write_complexity(output: Output, data: ImageSet, counts: Tensor, tokenizer: str) -> None:
    """Write a sheet of pictures from few to many tokens, and a table of all pictures.

    Args:
        output: The folder.
        data: All pictures.
        counts: (n,) tokens of each picture.
        tokenizer: Name of the tokenizer, for the record in the sheet.
    """
    import torch

    from arzoo.data.transforms import composite
    from arzoo.viz.complexity import complexity_sheet, evenly_ranked
    from arzoo.viz.settings import write_png

    rows = torch.tensor(evenly_ranked(counts))
    sheet = complexity_sheet(composite(data.pixels(rows)), counts[rows])
    write_png(output.path(SHEET), sheet, {"data": data.name, "tokenizer": tokenizer})
    names = data.files or range(len(data))
    held_out = ["validation" if held else "train" for held in data.held_out.tolist()]
    classes = [data.classes[label] for label in data.labels.tolist()]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("picture", "split", "class", "tokens"))
    table.writerows(zip(names, held_out, classes, counts.tolist(), strict=True))
    write_text(output.path(TABLE), text.getvalue())
