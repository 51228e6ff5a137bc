"""Train the shipped network of clips, `clip_probe`, and write it with its card.

    python scripts/dev/train_clip_probe.py --minutes 20
    python scripts/dev/train_clip_probe.py --minutes 1 --out out/probe

Every batch has each of its clips twice, as it is and reversed in time, and the network learns which game it is and
which of the two; clips are shifted by some pixels, and start at a random frame. Clips of the data are held out by
episode: the accuracy on them goes into the card. Weights are stored in 8 bits.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from arzoo.base.files import file_sha256
from arzoo.base.runtime import versions
from arzoo.base.weights import to_storage
from arzoo.data import load
from arzoo.data.base import ImageSet
from arzoo.data.transforms import to_model
from arzoo.models.vision.clip_probe import FEATURES, SIDE, WEIGHTS, ClipNetwork, read_network

DATA, FRAMES, SHORTEST, SHIFT = "atari_clips", 17, 12, 4
BATCH, RATE = 16, 3e-3


def main() -> None:
    """Train for some minutes, measure, and write weights, card and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20, help="time of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder (default: in the package)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    data = load(DATA, SIDE, frames=FRAMES)
    rng = torch.Generator().manual_seed(arguments.seed)
    net = ClipNetwork(len(data.classes)).to(memory_format=torch.channels_last_3d)
    steps, seconds = train(net, data.split("train"), arguments.minutes * 60, rng)
    calibrate(net, data.split("train"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.out / WEIGHTS.name
    save_file(to_storage(net.eval().state_dict(), 8), weights, metadata={"format": "pt"})
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "seed": arguments.seed,
        "steps": steps,
        "minutes": round(seconds / 60, 1),
        "data": f"{data.name}, {len(data)} clips of {FRAMES} frames of {len(data.classes)} games",
        "data_sha256": data.sha256,
        "parameters": sum(value.numel() for value in net.parameters()),
        "sha256": file_sha256(weights),
        "held_out": accuracy(read_network(weights), data.split("validation")),
        "versions": versions(),
    }
    (arguments.out / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "README.md").write_text(card(record), encoding="utf-8")
    print(json.dumps(record, indent=2))


def train(net: ClipNetwork, data: ImageSet, seconds: float, rng: torch.Generator) -> tuple[int, float]:
    """Train until the time is over; returns steps and seconds."""
    decayed = [value for value in net.parameters() if value.dim() > 1]
    others = [value for value in net.parameters() if value.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    started, steps, running = time.monotonic(), 0, 0.0
    while (passed := time.monotonic() - started) < seconds:
        done = passed / seconds
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (steps + 1) / 100) * (1 - done**2)
        rows = torch.randint(len(data), (BATCH,), generator=rng)
        loss = loss_of(net.train(), varied(data.pixels(rows), rng), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps, running = steps + 1, 0.95 * running + 0.05 * float(loss.detach())
        if steps % 50 == 0:
            print(f"step {steps}, {passed / 60:.1f} minutes, loss {running:.3f}", flush=True)
    return steps, time.monotonic() - started


@torch.inference_mode()
def calibrate(net: ClipNetwork, data: ImageSet) -> None:
    """Measure mean and variance of the features that the classifier does not read."""
    net.eval().level.train()
    for rows in torch.arange(0, len(data), 2).split(BATCH):
        net.features(to_model(data.pixels(rows)).to(memory_format=torch.channels_last_3d))
    net.level.eval()


def varied(clips: Tensor, rng: torch.Generator) -> Tensor:
    """Cut clips (B, T, H, W, 3) to fewer frames, and shift each by some pixels; returns (B, 3, t, H, W) in [-1, 1]."""
    frames = int(torch.randint(SHORTEST, FRAMES + 1, (1,), generator=rng))
    first = int(torch.randint(FRAMES - frames + 1, (1,), generator=rng))
    x = F.pad(to_model(clips[:, first : first + frames]), (SHIFT,) * 4 + (0, 0), mode="replicate")
    corners = torch.randint(2 * SHIFT + 1, (len(clips), 2), generator=rng).tolist()
    return torch.stack(
        [clip[..., i : i + SIDE, j : j + SIDE] for clip, (i, j) in zip(x, corners, strict=True)]
    )


def loss_of(net: ClipNetwork, clips: Tensor, games: Tensor) -> Tensor:
    """Return the loss of clips (B, 3, T, H, W) and of the same clips reversed.

    It is the cross entropy of the game, and twice that of the direction of clips of the true game.
    """
    both = torch.cat([clips, clips.flip(2)]).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(both).float()
    games, reversed_ = games.repeat(2), torch.arange(2).repeat_interleave(len(clips))
    of_game = F.cross_entropy(logits.logsumexp(2), games)
    return of_game + 2 * F.cross_entropy(logits[torch.arange(len(games)), games], reversed_)


@torch.inference_mode()
def accuracy(net: ClipNetwork, data: ImageSet) -> dict[str, Any]:
    """Return the shares of held-out clips whose game and whose direction are recognized, and the loss."""
    games, directions = [], []
    for rows in torch.arange(len(data)).split(BATCH):
        clips, labels = to_model(data.pixels(rows)), data.labels[rows]
        for reversed_, x in ((0, clips), (1, clips.flip(2))):
            logits = net(x)
            games.append(logits.logsumexp(2).argmax(1) == labels)
            directions.append(logits.logsumexp(1).argmax(1) == reversed_)
    shares = {"game": torch.cat(games), "direction": torch.cat(directions)}
    return {"clips": len(data)} | {name: round(float(x.double().mean()), 3) for name, x in shares.items()}


def card(record: dict[str, Any]) -> str:
    """Return the card in Markdown."""
    held_out = record["held_out"]
    return f"""# clip_probe

A (2+1)D network of clips of arzoo for distances between sets of clips, which are
called `fvd_clip_probe` and `kvd_clip_probe`: they are not FVD, which is a distance in features of I3D. It sees the
direction of time. {record["parameters"]:,} parameters, stored in 8 bits; {FEATURES} features.

* data: {record["data"]} (sha256 `{record["data_sha256"][:16]}`), generated by `arzoo data`
* task: which game a clip shows, and whether it runs forward or backward
* command: `{record["command"]}`
* seed: {record["seed"]}
* steps: {record["steps"]}
* minutes: {record["minutes"]}, after which training stops, on one core
* sha256 of the weights: `{record["sha256"]}`
* of {held_out["clips"]} held-out clips, each forward and backward: the game is right in {held_out["game"]:.1%}, the
  direction in {held_out["direction"]:.1%} (one in two by chance)

It knows pictures of games of 1977 to 1990 and nothing else: among clips of other kinds, read its distances with care.
"""


if __name__ == "__main__":
    main()
