"""The subject of `arzoo evaluate`, opened before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName, UsageError
from arzoo.base.paths import expanded
from arzoo.checkpoints.folder import Checkpoint, open_checkpoint
from arzoo.checkpoints.names import ARCHIVE, INDEX, bundled
from arzoo.checkpoints.provenance import provenance, weights_in
from arzoo.checkpoints.runs import newest
from arzoo.core.contracts import Tokenizer
from arzoo.data.clip_files import counted
from arzoo.data.clip_folder import FRAMES as CLIP
from arzoo.data.clip_folder import holds_clips
from arzoo.data.npz import NpzFile
from arzoo.data.pictures import Pictures, by
from arzoo.data.scored_clips import Frames
from arzoo.generation import effort
from arzoo.generation.generator import Generator
from arzoo.metrics.comparison import no_fvd
from arzoo.metrics.conditions import DRAWN, to_draw
from arzoo.metrics.continued import ContinuedClips
from arzoo.metrics.evaluation import Options
from arzoo.metrics.presets import Preset, preset
from arzoo.metrics.rate import Rate, rates, usual_rates
from arzoo.metrics.reference import FRAMES, pictures_of
from arzoo.metrics.samples import DrawnPictures, like_rows
from arzoo.metrics.trained_on import data_of, has_parts
from arzoo.models.vision.features import DEFAULT, DEFAULT_OF_CLIPS, FeatureNet, feature_net
from arzoo.samplers.schedules import control_to_data


@dataclass(frozen=True, kw_only=True)
class Request:
    """Subject and options of a measurement, as the user names them.

    Attributes:
        samples: A folder of pictures, an npz file, a data set, or a checkpoint.
        reference: A data set, a folder or an npz file; the data of a checkpoint by default.
        split: "train", "validation" or "all" of a reference data set; "auto" is the usual one.
        metrics: Names of metrics; all that fit by default.
        preset: Name of a published tool to follow.
        net: A feature network, as NAME or NAME=PATH.
        num: Number of pictures; 0 for all, or for 1000 of a generator.
        frames: Number of first frames of a clip that are scored; 0 for all, or for those of the preset.
        keep: Number of first frames of reference clips that a generator is given and continues; 0 for none.
        score: "all" frames of continued clips, or only the "new" ones.
        fps: Frames per second to which files of a folder are resampled; None to take every frame.
        stride: Frames from the beginning of a clip to that of the next one of a file; None for clips side by side.
        seed: Seed of the pictures that a generator draws.
        batch: Pictures per batch.
        bootstrap: Resamples for the standard errors.
        by: What a generator draws, "classes" or "captions"; "auto" is captions if it reads text and the reference has
            any, else classes.
        tokenizer: Where the tokenizer of a generator is.
        tokens: Numbers of tokens at which a tokenizer of ordered tokens is measured.
        quality: Target errors at which a tokenizer of adaptive tokens is measured.
        save_statistics: File for the statistics of the samples.
        save_samples: File for the samples.
    """

    samples: str
    reference: str | None = None
    split: str = "auto"
    metrics: tuple[str, ...] = ()
    preset: str | None = None
    net: str | None = None
    num: int = 0
    frames: int = 0
    keep: int = 0
    score: str = "all"
    fps: float | None = None
    stride: int | None = None
    seed: int = 0
    batch: int = 32
    bootstrap: int = 20
    by: str = "auto"
    tokenizer: str | None = None
    tokens: tuple[int, ...] = ()
    quality: tuple[float, ...] = ()
    save_statistics: str | None = None
    save_samples: str | None = None

    @property
    def timed(self) -> bool:
        """Whether the request says how clips are taken from files."""
        return self.fps is not None or self.stride is not None

    def split_or(self, usual: str) -> str:
        """Return the requested part of a reference data set, or the usual one."""
        return usual if self.split == "auto" else self.split


@dataclass(kw_only=True)
class Subject:
    """Pictures or a checkpoint to measure, with network and reference.

    Attributes:
        name: Name that the user gave.
        kind: "samples", "generator" or "tokenizer".
        net: The feature network.
        pictures: The samples, or the originals of a tokenizer; None if only statistics are known.
        reference: Name of the reference, None without one.
        split: Part of a reference data set.
        checkpoint: The measured checkpoint, if any.
        tokenizer: The measured tokenizer, if any.
        rates: Points of its curve over the number of tokens; none if all pictures have all tokens.
        facts: Further facts for the document.
        weights: The sha256 of the networks that draw or decode, by part.
        modules: Networks besides `net`.
        part: Frames of clips that are scored, None for pictures.
    """

    name: str
    kind: str
    net: FeatureNet
    pictures: Pictures | None
    reference: str | None
    split: str = "train"
    checkpoint: Checkpoint | None = None
    tokenizer: Tokenizer | None = None
    rates: Sequence[Rate] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    modules: tuple[nn.Module, ...] = ()
    part: Frames | None = None

    @property
    def size(self) -> tuple[int, ...] | None:
        """(H, W) of the samples, None if only statistics are known."""
        return self.pictures.size if self.pictures is not None else None

    @property
    def provenance(self) -> dict[str, Any]:
        """The weights that drew or decoded, and their settings."""
        return provenance(self.weights, {} if self.pictures is None else self.pictures.sampling)


def find(request: Request, device: torch.device) -> Subject:
    """Find and open the subject of a request.

    Raises:
        UsageError: There is no reference, or an option does not apply to the subject.
        ArzooError: The subject cannot be measured.
    """
    tool = preset(request.preset) if request.preset else None
    Options(request.metrics, preset=tool).check()
    checkpoint = named_checkpoint(request.samples)
    if checkpoint is not None:
        checkpoint.metrics  # noqa: B018  figures will be added: detect a damaged file before hours of drawing
    if request.net or tool:
        net_of(request.net, tool)  # detect missing weights before a model is loaded
    if checkpoint is None:
        subject = a_set(request, device)
    elif checkpoint.kind == "value":
        raise ArzooError(
            f"{request.samples} is a value model, which draws nothing that could be measured; its training measured "
            "how well it foresees (metrics.json). Name a generator or a tokenizer"
        )
    elif checkpoint.kind == "segmenter":
        raise ArzooError(
            f"{request.samples} is a segmenter of volumes, which draws no pictures that could be measured. Score "
            "what it segments with --task segmentation, or name a generator or a tokenizer"
        )
    elif checkpoint.kind == "tokenizer":
        subject = a_tokenizer(request, checkpoint, device)
    else:
        subject = a_generator(request, checkpoint, device)
    if request.keep and subject.kind != "generator":
        raise UsageError(
            f"--keep gives frames to a generator of clips, and {request.samples} is none; leave it out"
        )
    paired = subject.tokenizer is not None or isinstance(subject.pictures, ContinuedClips)
    Options(request.metrics, preset=tool).check(pairs=paired)
    if (request.tokens or request.quality) and subject.tokenizer is None:
        raise UsageError(
            f"--tokens and --quality are points of the curve of a tokenizer, and {request.samples} is none; leave them "
            "out"
        )
    data = subject.reference or subject.name
    files = [data] if checkpoint else [data, request.samples]
    if request.timed and not any(Path(expanded(name)).is_dir() for name in files):
        raise UsageError(
            f"--fps and --stride say how clips are taken from the files of a folder, and none is compared "
            f"here ({', '.join(dict.fromkeys(files))}); leave them out"
        )
    if request.split != "auto" and not has_parts(data, checkpoint):
        raise UsageError(f"--split {request.split} is a part of a data set, and {data} is none; leave it out")
    return subject


def viewed(request: Request, frames: int, device: torch.device) -> tuple[FeatureNet, Frames | None]:
    """Return the network for pictures, or for clips of so many frames, and the frames that it sees.

    Raises:
        UsageError: The network takes the other kind or more frames, the preset has another one, or a metric needs
            another.
        ArzooError: The network does not exist, or its weights are missing.
    """
    tool = preset(request.preset) if request.preset else None
    net = net_of(request.net, tool, frames > 1).to(device)
    if "fvd" in request.metrics and not (net.of_clips and net.standard):
        raise UsageError(no_fvd(net))
    if frames == 1:
        if net.of_clips or request.frames:
            what = f"--frames {request.frames} is" if request.frames else f"{net.name} is a network"
            raise UsageError(f"{what} for clips, and {request.samples} has pictures. Leave it out")
        return net, None
    if not net.of_clips:
        raise UsageError(
            f"{net.name} sees single pictures, and {request.samples} has clips of {frames} frames. Leave --net out, or "
            f"take one of clips: {DEFAULT_OF_CLIPS}, i3d=FILE"
        )
    first = request.keep if request.score == "new" else 0
    count = request.frames or (tool.frames if tool and not first else 0) or frames - first
    if not net.least_frames <= count <= frames - first:
        raise UsageError(
            f"{counted(count)} of {request.samples} cannot be scored by {net.name}: its clips have "
            f"{frames - first}{' new ones' if first else ''}, and the network takes at least {net.least_frames}"
        )
    return net, Frames(frames, first, count, request.fps, request.stride)


def net_of(requested: str | None, tool: Preset | None, of_clips: bool = False) -> FeatureNet:
    """Return the feature network requested as NAME or NAME=PATH, that of the preset, or the default.

    Raises:
        UsageError: The preset reads pictures with another one.
        ArzooError: The network does not exist, or its weights are missing.
    """
    usual = tool.net if tool else DEFAULT_OF_CLIPS if of_clips else DEFAULT
    name, _, path = (requested or usual).partition("=")
    if tool and name != tool.net:
        raise UsageError(
            f"--preset {tool.name} reads pictures with {tool.net}, not {name}. Leave --net out, or say where its "
            f"weights are: --net {tool.net}=PATH"
        )
    return feature_net(name, path or None)


def named_checkpoint(name: str) -> Checkpoint | None:
    """Open the checkpoint of a name, None if the name is that of a set of pictures.

    Raises:
        ArzooError: It is neither.
    """
    path = Path(expanded(name))
    trained = newest(path) is not None or (path / INDEX).exists()
    if not trained and (name in registry.names("dataset") or path.is_dir() or path.suffix == ".npz"):
        return None
    if path.is_file() and path.suffix != ARCHIVE:
        raise ArzooError(
            f"{name} is no set of pictures: samples are a folder of them, an .npz file (numpy.savez), a data set or a "
            "checkpoint"
        )
    try:
        return open_checkpoint(name)
    except UnknownName as error:
        known = [*bundled(), *registry.names("dataset")]
        hint = "Give a folder of pictures, an npz file, a data set, or a checkpoint."
        raise UnknownName("samples", name, known, hint) from error


def files_of(request: Request) -> Frames:
    """Return how clips are taken from the files of a folder: as many frames as are scored, 17 if it is not said."""
    count = request.frames or (preset(request.preset).frames if request.preset else 0) or CLIP
    return Frames(count, 0, count, request.fps, request.stride)


def a_set(request: Request, device: torch.device) -> Subject:
    """Open existing pictures or statistics."""
    name, alone = request.samples, request.reference is None
    if alone and not request.save_statistics:
        raise UsageError(f"what is {name} to be compared with? --reference DATA, a folder or an npz file")
    path = Path(expanded(name))
    if path.suffix == ".npz" and "mu" in NpzFile(path):
        if alone or request.save_samples or request.num:
            raise UsageError(
                f"{name} holds statistics, and those are used: give a --reference, and no --num or --save-samples"
            )
        if FRAMES in NpzFile(path):
            raise UsageError(
                f"{name} holds statistics of clips, which can be a reference only: give the clips"
            )
        pictures = None
    else:
        split = request.split_or("train") if alone else "validation"
        of_clips = path.is_dir() and not has_parts(name) and (request.timed or holds_clips(path))
        part = files_of(request) if of_clips else None
        pictures = pictures_of(name, split if has_parts(name) else "all", num=request.num, part=part)
    net, part = viewed(request, pictures.frames if pictures else 1, device)
    if part and request.save_samples:
        raise UsageError(
            "--save-samples writes pictures in the layout of the ADM evaluator, which has no clips"
        )
    return Subject(
        name=name,
        kind="samples",
        net=net,
        part=part,
        pictures=pictures,
        reference=request.reference,
        split=request.split_or("train") if has_parts(request.reference or "") else "all",
    )


def a_generator(request: Request, checkpoint: Checkpoint, device: torch.device) -> Subject:
    """Open a generator, which draws classes or captions of reference pictures, or each class equally often."""
    model = Generator.load(request.samples, request.tokenizer).to(device)
    net, part = viewed(request, model.tokenizer.frames, device)
    name = request.reference or data_of(checkpoint)
    split = request.split_or("train") if has_parts(name, checkpoint) else "all"
    pictures = drawn(request, model, name, split, part)
    controls = control_to_data(model.control)
    return Subject(
        name=request.samples,
        kind="generator",
        net=net,
        part=part,
        pictures=pictures,
        reference=name,
        split=split,
        checkpoint=checkpoint,
        facts={
            "weights": weights_of(checkpoint),
            "tokenizer": model.tokenizer_hash[:12],
            "controls": controls,
        },
        weights={**weights_in(checkpoint.index), "tokenizer": model.tokenizer_hash},
        modules=tuple(effort.weights(model)),
    )


def a_tokenizer(request: Request, checkpoint: Checkpoint, device: torch.device) -> Subject:
    """Open a tokenizer, which reconstructs reference pictures."""
    tokenizer = checkpoint.load("tokenizer").requires_grad_(False).to(device)
    assert isinstance(tokenizer, Tokenizer)
    net, part = viewed(request, tokenizer.frames, device)
    points = rates(tokenizer, request.tokens, request.quality) or usual_rates(tokenizer)
    name, size = request.reference or data_of(checkpoint), tokenizer.image_size
    split = request.split_or("validation") if has_parts(name, checkpoint) else "all"
    originals = pictures_of(name, split, size, request.num, part)
    if originals.size != size:
        raise ArzooError(
            f"{originals.name} has pictures of {by(originals.size)}, the tokenizer takes {by(size)}"
        )
    return Subject(
        name=request.samples,
        kind="tokenizer",
        net=net,
        part=part,
        pictures=originals,
        reference=name,
        split=split,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        rates=points,
        facts={"weights": weights_of(checkpoint)},
        weights=weights_in(checkpoint.index),
        modules=(tokenizer,),
    )


def drawn(request: Request, model: Generator, name: str, split: str, part: Frames | None) -> DrawnPictures:
    """Return what a generator draws: pictures or clips of its own, or continuations of those of the reference.

    Raises:
        UsageError: The generator does not draw what the request says.
        ArzooError: It draws captions alone, and the reference has none.
    """
    requests, chosen, notes = to_draw(request, model, name, split, part)
    if not request.keep:
        return DrawnPictures(request.samples, model, requests, chosen, request.seed, notes)
    if part is None:
        raise UsageError(
            f"--keep gives first frames, and {request.samples} draws single pictures; leave it out"
        )
    originals = pictures_of(name, split, model.tokenizer.image_size, part=part)
    rows = like_rows(len(originals), request.num or DRAWN).tolist()
    return ContinuedClips(
        request.samples, model, originals, rows, requests, chosen, request.keep, request.seed, notes
    )


def weights_of(checkpoint: Checkpoint) -> str:
    """Return a short hash of the weights of the main part."""
    part = "tokenizer" if checkpoint.kind == "tokenizer" else "backbone"
    return str(checkpoint.parts[part]["weights"])[:12]
