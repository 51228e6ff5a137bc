"""Synthetic electron microscopy of brain tissue: neurites through slices, with membranes, grain and mitochondria.

Real volumes are large and few may be shipped. These look like cortex at a glance and have exact labels, so that
segmentation can be trained and measured anywhere. Neurites are seeds that walk smoothly through the slices; in each, a
pixel belongs to the seed whose distance less its radius is smallest (a power diagram, nearly), under a smooth warp.
Membranes follow from the distance to the second nearest. Every number is a function of the seed.

Shapes: Z Y X sides of the volume, N neurites.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.core.volumes import Size
from arzoo.data.volume import Volume, connected

VOXEL_SIZE = (35.0, 8.0, 8.0)
"""Nanometers, as of volumes of mouse cortex."""
AREA = 256 * 256 / 180
"""Pixels of a slice per neurite."""
MEMBRANE = 1.4
"""Width of a membrane in pixels, as deviation of a normal curve."""
_MARGIN = 32
"""Pixels around the volume in which neurites begin, too."""
_CHUNK = 1 << 22
"""Distances that are computed at once."""


def em_synthetic(sides: Size = (32, 256, 256), seed: int = 0) -> Volume:
    """Make a volume of synthetic electron microscopy.

    Args:
        sides: Voxels along z, y and x, at least 8 along y and x.
        seed: Of everything.

    Returns:
        The volume; labels count from 1, are connected, and leave no voxel out.

    Raises:
        ArzooError: It would be too small.
        MissingPackage: The extra `em` is not installed.
    """
    if sides[0] < 1 or min(sides[1:]) < 8:
        raise ArzooError(f"a synthetic volume has at least 1 slice of 8 x 8 pixels, got {sides}")
    draws = Draws([seed])
    paths = _paths(draws, sides)
    radii = 0.35 * math.sqrt(AREA) * (0.35 * _normal(draws, (len(paths),))).exp()
    places = _places(draws, sides)
    nearest, gap = _nearest(places, paths, radii)
    grey = 0.66 + 0.05 * _normal(draws, (len(paths),))[nearest]
    grey += 0.05 * _grain(draws, sides, 3) + 0.06 * _grain(draws, sides, 1)
    _add_mitochondria(draws, grey, places, paths, nearest)
    grey -= 0.45 * (-0.5 * (gap / MEMBRANE).square()).exp()
    gain, offset = (1 + 0.04 * _normal(draws, (sides[0], 1, 1)), 0.02 * _normal(draws, (sides[0], 1, 1)))
    voxels = (255 * (gain * grey + offset)).round().clamp(0, 255).to(torch.uint8)
    return Volume(f"em_synthetic_{seed}", voxels, connected(nearest + 1), VOXEL_SIZE)


def _normal(draws: Draws, shape: tuple[int, ...]) -> Tensor:
    return draws.normal((1, *shape))[0]


def _paths(draws: Draws, sides: Size) -> Tensor:
    """Place (N, Z, 2) of each neurite in each slice, along y and x."""
    area = (sides[1] + 2 * _MARGIN) * (sides[2] + 2 * _MARGIN)
    count = max(round(area / AREA), 2)
    extent = torch.tensor([sides[1], sides[2]]) + 2 * _MARGIN
    start = draws.uniform((1, count, 2))[0].float() * extent - _MARGIN
    pushes = _normal(draws, (sides[0], count, 2))
    speed, place, places = _normal(draws, (count, 2)), start, list[Tensor]()
    for push in pushes:
        places.append(place)
        speed = 0.9 * speed + math.sqrt(1 - 0.9**2) * push
        place = place + 1.2 * speed
    return torch.stack(places, 1)


def _places(draws: Draws, sides: Size) -> Tensor:
    """Place (Z, Y, X, 2) that each voxel shows: warped smoothly, and each slice shifted by a part of a pixel."""
    coarse = tuple(2 + side // step for side, step in zip(sides, (8, 48, 48), strict=True))
    warp = F.interpolate(_normal(draws, (1, 2, *coarse)), size=sides, mode="trilinear", align_corners=True)[0]
    shift = 0.5 * _normal(draws, (sides[0], 1, 1, 2))
    grid = torch.stack(torch.meshgrid(*(torch.arange(side) for side in sides[1:]), indexing="ij"), -1)
    return grid + 5 * warp.movedim(0, -1) + shift


def _nearest(places: Tensor, paths: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest neurite of each voxel, and how much farther the second is."""
    labels, gaps = list[Tensor](), list[Tensor]()
    for z, of_slice in enumerate(places):
        for part in of_slice.flatten(0, 1).split(max(_CHUNK // len(paths), 1)):
            # Differences are squared directly: products of matrices round as the processor likes.
            y, x = ((part[:, axis] - paths[:, z, axis, None]).square_() for axis in (0, 1))
            distances = y.add_(x).sqrt_().sub_(radii[:, None])
            nearest, which = distances.min(0)
            labels.append(which)
            gaps.append(distances.scatter_(0, which[None], math.inf).amin(0) - nearest)
    shape = places.shape[:3]
    return torch.cat(labels).view(shape), torch.cat(gaps).view(shape)


def _grain(draws: Draws, sides: Size, reach: int) -> Tensor:
    """Noise (Z, Y, X) of deviation 1, blurred in each slice over `reach` pixels to each side."""
    noise = _normal(draws, sides)[:, None]
    for _ in range(2):
        noise = F.avg_pool2d(noise, 2 * reach + 1, 1, reach, count_include_pad=False)
    return (noise / noise.std())[:, 0]


def _add_mitochondria(draws: Draws, grey: Tensor, places: Tensor, paths: Tensor, nearest: Tensor) -> None:
    """Draw striped ellipsoids, inside of one neurite each, into the grey values (Z, Y, X)."""
    count, slices = paths.shape[:2]
    number = round(count * slices / 60)
    cells = draws.integers((1, number), count)[0]
    depth, turn = draws.uniform((1, number))[0] * slices, draws.uniform((1, number))[0] * math.pi
    axes = torch.tensor([2.0, 9.0, 5.0]) * (1 + 0.6 * draws.uniform((1, number, 3))[0].float())
    levels = torch.arange(slices)
    for cell, z, angle, (a, b, c) in zip(
        cells.tolist(), depth.tolist(), turn.tolist(), axes.tolist(), strict=True
    ):
        near = (levels - z).abs() < a
        if not near.any():
            continue
        away = places[near] - paths[cell, min(int(z), slices - 1)]
        along = math.cos(angle) * away[..., 0] + math.sin(angle) * away[..., 1]
        across = math.cos(angle) * away[..., 1] - math.sin(angle) * away[..., 0]
        height = ((levels[near] - z) / a).square()[:, None, None]
        inside = height + (along / b).square() + (across / c).square() < 1
        stripes = 0.46 + 0.08 * torch.sin(2 * math.pi * along / 4)
        grey[near] = torch.where(inside & (nearest[near] == cell), stripes, grey[near])
