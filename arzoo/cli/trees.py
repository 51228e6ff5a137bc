"""Trees of `arzoo search --tree`: the comparisons of a search, with pictures of their candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from arzoo.generation.drawings import so_far
from arzoo.viz.tree import Level, search_tree

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from arzoo.generation.generator import Generator
    from arzoo.samplers.search.result import Comparison


def tree(model: Generator, comparisons: list[Comparison], title: str) -> Image.Image:
    """Return the picture of a search; unfinished candidates look as they do while they are drawn."""

    def pictures(level: int, rows: list[int]) -> np.ndarray:
        tokens = comparisons[level].tokens
        index = torch.tensor(rows, device=tokens.values.device)
        return so_far(model, tokens.select(index), exact=False)[:, 0].numpy()

    levels = [
        Level(each.steps, each.parents.tolist(), each.scores.tolist(), each.kept.tolist())
        for each in comparisons
    ]
    return search_tree(levels, pictures, f"{title} (green: kept, orange: result)")
