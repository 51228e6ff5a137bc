"""Pictures of any size as one sequence of patches, and where each patch is.

The patches of a token are consecutive, tokens are in raster order. Windowed layers see the tokens of a window one after
another; windows begin at the top left, and those at the right and the bottom may be smaller.

Shapes: F pictures of one size, h x w tokens of a picture, N tokens of all pictures, m x m patches of a token, S patches
of all pictures, P numbers of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from arzoo.models.common.packing import Segments
from arzoo.models.common.rope import rope_table, turns

Size = tuple[int, int]
"""(h, w): tokens of a picture."""


def to_patches(pictures: Tensor, patch: int, merge: int, frames: int) -> Tensor:
    """Cut pictures (F, 3, H, W) into patches (F * h * w * m * m, P), P ordered channel, frame, row, column.

    Args:
        pictures: Pictures, whose sides are multiples of `patch * merge`.
        patch: Side of a patch in pixels.
        merge: Patches m along the side of a token.
        frames: Number of times a patch repeats its picture, for networks made for clips.
    """
    side = patch * merge
    rows, columns = pictures.shape[2] // side, pictures.shape[3] // side
    x = pictures.view(-1, 3, rows, merge, patch, columns, merge, patch).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return x.unsqueeze(-3).expand(*x.shape[:6], frames, patch, patch).flatten(5).flatten(0, 4)


def to_pictures(patches: Tensor, size: Size, patch: int, merge: int, frames: int) -> Tensor:
    """Put patches (F * h * w * m * m, P) of pictures of one size together as (F, 3, H, W), from their first frames."""
    x = patches.view(-1, *size, merge, merge, 3, frames, patch, patch)[..., 0, :, :]
    height, width = (side * merge * patch for side in size)
    return x.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(-1, 3, height, width)


class Places:
    """Places of the patches of packed pictures.

    Args:
        sizes: (h, w) of each picture.
        merge: Patches m along the side of a token.
        head_width: Channels of a head, which are rotated by the places.
        device: Device of the patches.
        window: Side of the windows in tokens, whose tokens are consecutive; 0 for raster order.
        row_by_row: Rotate as if the patches of a picture were in raster order, which they are not.

    Attributes:
        pictures: Segments of the patches of a picture.
        windows: Segments of the patches of a window; those of a picture without windows.
        turns: Rotations (1, S, 1, head_width / 2).
    """

    def __init__(
        self,
        sizes: Sequence[Size],
        merge: int,
        head_width: int,
        device: torch.device,
        window: int = 0,
        row_by_row: bool = False,
    ) -> None:
        area = merge * merge
        lengths = [h * w * area for h, w in sizes]
        self.pictures = self.windows = Segments(lengths, device)
        kinds = {size: _patch_rows(size, merge, row_by_row) for size in dict.fromkeys(sizes)}
        self._order: Tensor | None = None
        if window:
            windows = {size: _window_order(size, window) for size in kinds}
            kinds = {
                size: places.view(-1, area, 2)[windows[size][0]].flatten(0, 1)
                for size, places in kinds.items()
            }
            self.windows = Segments([n * area for size in sizes for n in windows[size][1]], device)
            starts = torch.tensor([0, *(h * w for h, w in sizes)]).cumsum(0).tolist()
            order = torch.cat([windows[size][0] + start for size, start in zip(sizes, starts, strict=False)])
            self._order, self._back = order.to(device), order.argsort(stable=True).to(device)
        tables = {size: rope_table(places, head_width) for size, places in kinds.items()}
        self.turns = turns(torch.cat([tables[size] for size in sizes])[None]).to(device)

    def by_window(self, tokens: Tensor) -> Tensor:
        """Arrange tokens (N, ...) in raster order by window."""
        return tokens if self._order is None else tokens.index_select(0, self._order)

    def by_row(self, tokens: Tensor) -> Tensor:
        """Arrange tokens (N, ...) by row again."""
        return tokens if self._order is None else tokens.index_select(0, self._back)


def _patch_rows(size: Size, merge: int, row_by_row: bool) -> Tensor:
    """(row, column) of the patches (h * w * m * m, 2) of a picture."""
    rows, columns = size[0] * merge, size[1] * merge
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    if row_by_row:
        return places
    return places.view(size[0], merge, size[1], merge, 2).transpose(1, 2).reshape(-1, 2)


def _window_order(size: Size, window: int) -> tuple[Tensor, list[int]]:
    """Tokens (h * w,) of a picture by window, each window in raster order, and the number of tokens of each window."""
    row, column = torch.cartesian_prod(torch.arange(size[0]), torch.arange(size[1])).unbind(1)
    number = row // window * -(-size[1] // window) + column // window
    return number.argsort(stable=True), number.bincount().tolist()
