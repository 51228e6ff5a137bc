"""What `arzoo evaluate` is given, brought to the functions of `arzoo.metrics.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from arzoo import registry
from arzoo.checkpoint import Checkpoint, open_checkpoint
from arzoo.cli.progress import progress
from arzoo.errors import ArzooError, UnknownName
from arzoo.locate import INDEX, bundled
from arzoo.metrics.bank import Measured
from arzoo.metrics.bank import measure as measure_pictures
from arzoo.metrics.drawn import DrawnPictures, balanced, drawn_like
from arzoo.metrics.evaluation import (
    Evaluation,
    Options,
    evaluate_pictures,
    evaluate_statistics,
    evaluate_tokenizer,
)
from arzoo.metrics.features import FeatureNet, feature_net
from arzoo.metrics.npz import NpzFile, write_npz
from arzoo.metrics.pictures import Pictures
from arzoo.metrics.reference import Reference, data_split, pictures_of, read_reference, save_statistics
from arzoo.prompts import takes_text

if TYPE_CHECKING:
    from arzoo.cli.evaluate import Evaluate
    from arzoo.generator import Generator

DRAWN = 1000
"""Pictures that a generator draws to be measured, unless --num says otherwise."""


@dataclass
class Found:
    """What was measured.

    Attributes:
        subject: What people call it.
        kind: "samples", "generator" or "tokenizer".
        net: In whose features.
        samples: The features.
        evaluation: The figures, None when there was nothing to compare with.
        checkpoint: When one was measured.
        facts: What else is known of it.
        batches: Rows, pictures and labels of this process, when they are to be saved.
    """

    subject: str
    kind: str
    net: FeatureNet
    samples: Measured
    evaluation: Evaluation | None
    checkpoint: Checkpoint | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    images: Tensor | None = None
    labels: list[str] | None = None

    def document(self) -> dict[str, Any]:
        """As plain data."""
        empty = {"figures": {}, "protocol": {}, "comparable": "", "warnings": [], "left_out": {}}
        found = self.evaluation.document() if self.evaluation else empty
        return {"subject": self.subject, "kind": self.kind, **self.facts, **found}

    def save(self, statistics: str | None, samples: str | None, overwrite: bool) -> list[str]:
        """Write npz files of statistics and of samples; the files."""
        if statistics:
            save_statistics(Path(statistics), self.samples, self.net, overwrite)
        if samples:
            assert self.images is not None
            # Evaluators cut the file into chunks as it is, so it must not be sorted by class.
            order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
            arrays = {"arr_0": self.images[order].numpy()}
            if self.labels is not None:
                names = sorted(set(self.labels))
                arrays["arr_1"] = np.array([names.index(self.labels[i]) for i in order.tolist()])
            write_npz(Path(samples), arrays, overwrite)
        return [path for path in (statistics, samples) if path]


def measure(wanted: Evaluate, device: torch.device) -> Found:
    """Find out what is to be measured, and measure it.

    Raises:
        ArzooError: It cannot be, and why.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    keep = (lambda images, rows: kept.append((rows, images))) if wanted.save_samples else None
    options = Options(wanted.metrics, wanted.batch, wanted.bootstrap, seen=keep)
    options.check()
    checkpoint = named_checkpoint(wanted.samples)
    name, _, path = wanted.net.partition("=")
    net = feature_net(name, path or None).to(device)
    if checkpoint is None:
        found = measure_set(wanted, net, options)
    elif checkpoint.kind == "tokenizer":
        found = measure_tokenizer(wanted, checkpoint, net, options)
    else:
        found = measure_generator(wanted, checkpoint, net, options)
    if wanted.save_samples:
        found.images = gathered(kept)
    return found


def named_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint of a name, None if it is a set of pictures.

    Raises:
        ArzooError: It is neither.
    """
    path = Path(name).expanduser()
    trained = any((folder / INDEX).exists() for folder in (path, path / "checkpoint"))
    if not trained and (name in registry.names("dataset") or path.is_dir() or path.suffix == ".npz"):
        return None
    try:
        return open_checkpoint(name)
    except UnknownName as error:
        known = [*bundled(), *registry.names("dataset")]
        hint = "Give a folder of pictures, an npz file, a data set, or a checkpoint."
        raise UnknownName("samples", name, known, hint) from error


def measure_set(wanted: Evaluate, net: FeatureNet, options: Options) -> Found:
    """Pictures or statistics that are there already."""
    if wanted.reference is None and not wanted.save_statistics:
        raise ArzooError(
            f"what is {wanted.samples} to be compared with? --reference DATA, a folder or an npz file"
        )
    path = Path(wanted.samples).expanduser()
    if path.suffix == ".npz" and "mu" in NpzFile(path):
        return measure_statistics(wanted, net, options)
    alone = wanted.reference is None
    split = {"auto": "train"}.get(wanted.split, wanted.split) if alone else "validation"
    pictures = pictures_of(wanted.samples, split, num=wanted.num)
    if alone:
        with progress("measuring samples", "pictures") as tell:
            samples = measure_pictures(pictures, net, wanted.batch, tell, options.seen)
        return Found(wanted.samples, "samples", net, samples, None, labels=pictures.labels)
    reference = the_reference(wanted, str(wanted.reference), pictures.size, net)
    evaluation = scored(pictures, reference, net, options)
    return Found(wanted.samples, "samples", net, evaluation.samples, evaluation, labels=pictures.labels)


def measure_statistics(wanted: Evaluate, net: FeatureNet, options: Options) -> Found:
    """Stored statistics."""
    if wanted.reference is None or wanted.save_samples or wanted.num:
        raise ArzooError(
            f"{wanted.samples} holds statistics, and those are used: give a --reference, and no --num or --save-samples"
        )
    samples = read_reference(wanted.samples, net, None, batch=wanted.batch)
    reference = the_reference(wanted, wanted.reference, None, net)
    evaluation = evaluate_statistics(samples, reference, net, options)
    return Found(wanted.samples, "samples", net, evaluation.samples, evaluation)


def measure_generator(wanted: Evaluate, checkpoint: Checkpoint, net: FeatureNet, options: Options) -> Found:
    """What a generator draws: the classes or captions of reference pictures, or equally many of each class."""
    from arzoo.generator import Generator

    model = Generator.load(wanted.samples, wanted.tokenizer)
    model = model.to(next(net.parameters()).device)
    name = wanted.reference or data_of(checkpoint)
    to_draw = captions_to_draw if takes_text(model.backbone) else classes_to_draw
    asked, chosen = to_draw(model, name, wanted.split, wanted.num or DRAWN)
    pictures = DrawnPictures(wanted.samples, model, asked, chosen, wanted.seed)
    reference = the_reference(wanted, name, pictures.size, net)
    evaluation = scored(pictures, reference, net, options, "drawing and measuring")
    controls = model.control.to_dict()
    facts = {"weights": weights_of(checkpoint), "tokenizer": model.tokenizer_hash[:12], "controls": controls}
    return Found(
        wanted.samples,
        "generator",
        net,
        evaluation.samples,
        evaluation,
        checkpoint,
        facts,
        None,
        pictures.labels,
    )


def measure_tokenizer(wanted: Evaluate, checkpoint: Checkpoint, net: FeatureNet, options: Options) -> Found:
    """What a tokenizer gives back of reference pictures."""
    from arzoo.tokenizers.base import Tokenizer

    device = next(net.parameters()).device
    tokenizer = checkpoint.load("tokenizer").requires_grad_(False).to(device)
    assert isinstance(tokenizer, Tokenizer)
    name, size = wanted.reference or data_of(checkpoint), tokenizer.image_size
    split = {"auto": "validation"}.get(wanted.split, wanted.split)
    originals = pictures_of(name, split, size, wanted.num)
    if originals.size != size:
        raise ArzooError(f"{originals.name} has pictures of {originals.size}, the tokenizer takes {size}")
    with progress("reconstructing", "pictures") as tell:
        evaluation = evaluate_tokenizer(tokenizer, originals, net, replaced(options, tell))
    facts = {"weights": weights_of(checkpoint)}
    return Found(
        wanted.samples,
        "tokenizer",
        net,
        evaluation.samples,
        evaluation,
        checkpoint,
        facts,
        None,
        originals.labels,
    )


def classes_to_draw(model: Generator, name: str, split: str, num: int) -> tuple[Tensor, str]:
    """Those of reference pictures when the reference is a data set with the model's classes, else equally many."""
    if name in registry.names("dataset") and model.classes:
        data = data_split(name, {"auto": "train"}.get(split, split))
        if data.classes == model.classes:
            return drawn_like(data.labels, num)
    return balanced(len(model.classes), num)


def captions_to_draw(model: Generator, name: str, split: str, num: int) -> tuple[Sequence[str], str]:
    """Those of reference pictures.

    Raises:
        ArzooError: The reference has no captions.
    """
    data = (
        data_split(name, {"auto": "train"}.get(split, split)) if name in registry.names("dataset") else None
    )
    if data is None or data.captions is None:
        raise ArzooError(
            f"the model draws what a text says, and reference {name!r} has no captions to draw. Give --reference a "
            "data set that has them, such as emoji64."
        )
    return drawn_like(data.captions, num)


def the_reference(wanted: Evaluate, name: str, size: Any, net: FeatureNet) -> Reference:
    """The reference, measured."""
    split = {"auto": "train"}.get(wanted.split, wanted.split)
    with progress("measuring the reference", "pictures") as tell:
        return read_reference(name, net, size, split, wanted.batch, tell)


def scored(
    pictures: Pictures, reference: Reference, net: FeatureNet, options: Options, what: str = "measuring"
) -> Evaluation:
    """An evaluation with progress."""
    with progress(what, "pictures") as tell:
        return evaluate_pictures(pictures, reference, net, replaced(options, tell))


def replaced(options: Options, tell: Any) -> Options:
    """The same with progress."""
    return Options(options.metrics, options.batch, options.replicates, tell, options.seen)


def data_of(checkpoint: Checkpoint) -> str:
    """The data a checkpoint was trained on.

    Raises:
        ArzooError: It does not say.
    """
    recipe = (checkpoint.index.get("training") or {}).get("recipe") or {}
    name = checkpoint.index.get("data") or recipe.get("data")
    if not name:
        raise ArzooError(
            f"{checkpoint.folder} does not say what it was trained on. Name what to compare with: --reference DATA"
        )
    return str(name)


def weights_of(checkpoint: Checkpoint) -> str:
    """Short hash of the weights of the main part."""
    part = "tokenizer" if checkpoint.kind == "tokenizer" else "backbone"
    return str(checkpoint.parts[part]["weights"])[:12]


def gathered(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Pictures of all processes in order."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        everywhere: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everywhere, batches)
        batches = [batch for process in everywhere for batch in process]
    rows = torch.cat([rows for rows, _ in batches])
    return torch.cat([images for _, images in batches])[rows.argsort()]
