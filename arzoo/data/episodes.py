"""Clips of games, recorded once into the cache: one process a game, several episodes, several clips of each.

The last episodes of every game are the validation split, so no clip of an episode is in both. Games that barely move
are left out.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arzoo.base.config import whole_number
from arzoo.base.console import progress
from arzoo.base.errors import ArzooError
from arzoo.base.files import explain_full_disk
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.data.base import ImageSet
from arzoo.data.clip_folder import FRAMES
from arzoo.data.clip_store import ROOM, kept_clips, write_clips

EPISODES, CLIPS = 10, 3
"""Episodes of a game, and clips of an episode."""
HELD_OUT = 5
"""One of this many episodes of a game is in the validation split, at least one."""
DULL = 0.001
"""Games in which a step changes less than this share of the pixels on average are left out."""

_KILLED = -9
"""Status of a process that was killed."""


@dataclass(frozen=True)
class Recording:
    """What is recorded, and by what.

    Attributes:
        name: Name of the data set.
        module: Module that records one game: `python -m MODULE GAME SIZE FRAMES EPISODES CLIPS OUT`.
        games: Names of the games, which are the classes.
        package: Distribution of the games, whose version the record names.
        version: Number that changes with the rules of recording.
        episodes: Episodes of a game.
    """

    name: str
    module: str
    games: tuple[str, ...]
    package: str
    version: int
    episodes: int = EPISODES


def recorded(recording: Recording, size: int, frames: int) -> tuple[ImageSet, dict[str, Any]]:
    """Return clips of (frames, size, size) from the cache, after recording them if they are not there.

    Returns:
        The clips, or pictures for one frame; and the entries of the index of the cache.

    Raises:
        ArzooError: Size or number of frames are not positive, no game could be recorded, or the disk is full.
    """
    size = whole_number(size, "the side of clips in pixels", 1)
    frames = whole_number(frames, "the number of frames of clips", 1)
    longest = max(frames, FRAMES)
    folder = cache_folder() / "data" / f"{recording.name}-{longest}x{size}-{recording.version}"
    with explain_cache():
        stored = kept_clips(folder, lambda _: True, lambda: _record(recording, folder, size, longest))
    assert stored is not None
    clips, index = stored
    for remark in index["remarks"]:
        warnings.warn(remark, stacklevel=4)
    data = ImageSet(
        name=recording.name,
        images=clips[:, 0] if frames == 1 else clips[:, :frames],
        labels=torch.tensor(index["labels"]),
        classes=tuple(index["classes"]),
        held_out=torch.tensor(index["held_out"]),
        mirrorable=torch.zeros(len(clips), dtype=torch.bool),
        report=(*index["remarks"], *index["dull"]),
    )
    return data, index


def _record(recording: Recording, folder: Path, size: int, frames: int) -> None:
    """Record all games and write the clips of the training split, then those of the validation split."""
    parts = folder / ".recording"
    shutil.rmtree(parts, ignore_errors=True)  # of a process that was killed
    parts.mkdir(parents=True)
    try:
        errors = _play(recording, parts, size, frames)
        _refuse_passing(errors, folder)
        whole = [game for game in recording.games if game not in errors]
        changed = {game: float(np.load(_part(parts, game))["changed"]) for game in whole}
        classes = [game for game, share in changed.items() if share >= DULL]
        if not classes:
            raise ArzooError(
                f"no game of {recording.name} could be recorded: {next(iter(errors.values()), 'none moves')}"
            )
        first = recording.episodes - max(1, recording.episodes // HELD_OUT)
        splits = slice(first), slice(first, None)
        counts = [first * CLIPS, (recording.episodes - first) * CLIPS]
        write_clips(
            folder, (frames, size, size, 3), _clips(parts, classes, splits),
            classes=classes,
            labels=[label for count in counts for label in range(len(classes)) for _ in range(count)],
            held_out=[bool(held) for held, count in enumerate(counts) for _ in range(count * len(classes))],
            remarks=[f"{game} could not be recorded: {why}" for game, why in errors.items()],
            dull=[f"{game} is left out: a step changes {share:.3%} of its pixels"
                  for game, share in changed.items() if share < DULL],
            version=metadata.version(recording.package),
        )  # fmt: skip
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _refuse_passing(errors: dict[str, str], folder: Path) -> None:
    """Raise an ArzooError for errors that are not the game's: a set without it would stay in the cache.

    Args:
        errors: The errors by game.
        folder: Folder of the clips.
    """
    for game, error in errors.items():
        if os.strerror(errno.ENOSPC) in error:
            with explain_full_disk("clips", folder, ROOM):
                raise OSError(errno.ENOSPC, error)
        if f"status {_KILLED}." in error:
            raise ArzooError(
                f"the process that recorded {game} was killed, perhaps as the memory was full. The same command tries "
                "again."
            )


def _play(recording: Recording, parts: Path, size: int, frames: int) -> dict[str, str]:
    """Record each game in a process of its own, and return the errors of those that failed."""
    numbers = [str(number) for number in (size, frames, recording.episodes, CLIPS)]
    # The processes find the modules that this one finds.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    }

    def play(game: str) -> str:
        command = [sys.executable, "-m", recording.module, game, *numbers, str(_part(parts, game))]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
        if done.returncode == 0 and _part(parts, game).exists():
            return ""
        last = "".join(done.stderr.strip().splitlines()[-1:])
        return f"its process ended with status {done.returncode}. {last}".rstrip()

    errors: dict[str, str] = {}
    with progress(f"recording {recording.name}", "games") as tell, ThreadPoolExecutor(_processors()) as pool:
        try:
            for done, (game, error) in enumerate(
                zip(recording.games, pool.map(play, recording.games), strict=True)
            ):
                tell(done + 1, len(recording.games))
                if error:
                    errors[game] = error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return errors


def _clips(parts: Path, classes: Sequence[str], splits: Sequence[slice]) -> Iterator[np.ndarray]:
    """Clips of the episodes of one split of all games, then those of the next split."""
    for episodes in splits:
        for game in classes:
            pixels = np.load(_part(parts, game))["pixels"][episodes]
            yield pixels.reshape(-1, *pixels.shape[2:])


def _part(parts: Path, game: str) -> Path:
    return parts / f"{game}.npz"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
