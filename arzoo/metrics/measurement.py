"""The measurement of a subject by `arzoo evaluate`, and the estimate of its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arzoo.base import estimate
from arzoo.base.console import progress
from arzoo.checkpoints.folder import Checkpoint
from arzoo.checkpoints.provenance import MEASURED
from arzoo.data.npz import write_npz
from arzoo.data.pictures import Pictures
from arzoo.metrics.bank import PictureFeatures, feature_bytes, of_all_processes
from arzoo.metrics.bank import measure as measure_pictures
from arzoo.metrics.cache import is_kept
from arzoo.metrics.continued import ContinuedClips
from arzoo.metrics.curve import Point, measure_curve
from arzoo.metrics.evaluation import (
    Evaluation,
    Options,
    RebuiltPictures,
    evaluate_pictures,
    evaluate_statistics,
    evaluate_tokenizer,
    reference_of,
)
from arzoo.metrics.presets import preset
from arzoo.metrics.rate import OWN
from arzoo.metrics.reference import Reference, pictures_to_measure, read_reference, save_statistics
from arzoo.metrics.subject import Request, Subject


@dataclass
class Measurement:
    """The result of a measurement.

    Attributes:
        subject: The measured subject.
        samples: Features of its pictures.
        evaluation: The figures, None without a reference.
        images: All samples in order, if they are to be saved.
        curve: Figures of a tokenizer over the number of tokens, if it varies.
    """

    subject: Subject
    samples: PictureFeatures
    evaluation: Evaluation | None
    images: Tensor | None = None
    curve: Sequence[Point] = ()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The measured checkpoint, None if the subject is none."""
        return self.subject.checkpoint

    def document(self) -> dict[str, Any]:
        """Return the result as plain data."""
        empty = {"figures": {}, "protocol": {}, "comparable": "", "warnings": [], "left_out": {}}
        figures = self.evaluation.document() if self.evaluation else empty
        return {
            "subject": self.subject.name,
            "kind": self.subject.kind,
            **self.subject.facts,
            **figures,
            **({"curve": [point.to_dict() for point in self.curve]} if self.curve else {}),
            MEASURED: self.subject.provenance,
        }

    def save(self, statistics: str | None, samples: str | None, overwrite: bool) -> list[str]:
        """Write npz files of statistics and of samples, and return their paths."""
        if statistics:
            save_statistics(Path(statistics), self.samples, self.subject.net, overwrite, self.subject.part)
        if samples:
            assert self.images is not None
            # Evaluators split the file into chunks in its order, so it must not be sorted by class.
            order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
            arrays = {"arr_0": self.images[order].numpy()}
            labels = self.subject.pictures.labels if self.subject.pictures is not None else None
            if labels is not None:
                names = sorted(set(labels))
                arrays["arr_1"] = np.array([names.index(labels[i]) for i in order.tolist()])
            write_npz(Path(samples), arrays, overwrite)
        return [path for path in (statistics, samples) if path]


def measure(request: Request, subject: Subject) -> Measurement:
    """Measure a subject.

    Raises:
        ArzooError: The subject cannot be measured.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    keep = (lambda images, rows: kept.append((rows, images))) if request.save_samples else None
    tool = preset(request.preset) if request.preset else None
    options = Options(request.metrics, request.batch, request.bootstrap, tool, subject.part, seen=keep)
    if subject.tokenizer is not None:
        measurement = measure_tokenizer(subject, options)
    elif subject.pictures is not None and subject.reference is None:
        with progress("measuring samples", subject.pictures.noun) as report:
            scored = options.scored(subject.pictures)
            samples = measure_pictures(scored, subject.net, request.batch, report, options.seen)
        measurement = Measurement(subject, samples, None)
    else:
        evaluation = evaluate(subject, options)
        measurement = Measurement(subject, evaluation.samples, evaluation)
    if request.save_samples:
        measurement.images = gathered(kept)
    return measurement


def measure_tokenizer(subject: Subject, options: Options) -> Measurement:
    """Compute the figures of a tokenizer, and its curve over the number of tokens."""
    tokenizer, net, pictures = subject.tokenizer, subject.net, subject.pictures
    assert tokenizer is not None
    assert pictures is not None
    reference = reference_of(options.scored(pictures), net, options.batch)
    with progress("reconstructing", pictures.noun) as report:
        reporting = replace(options, progress=report)
        whole = evaluate_tokenizer(tokenizer, pictures, net, reporting, reference=reference)
    curve = measure_curve(tokenizer, pictures, net, subject.rates, options, reference, whole.left_out)
    return Measurement(subject, whole.samples, whole, curve=curve)


def evaluate(subject: Subject, options: Options) -> Evaluation:
    """Compute the figures of a set or a generator that has a reference."""
    net, pictures = subject.net, subject.pictures
    reference = measured_reference(subject, options.batch)
    if pictures is None:
        samples = read_reference(subject.name, net, None, batch=options.batch)
        return evaluate_statistics(samples, reference, net, options)
    paired = isinstance(pictures, ContinuedClips)
    options.check(pairs=paired, statistics=reference.measured.features is None)
    what = "drawing and measuring" if subject.kind == "generator" else "measuring"
    with progress(what, pictures.noun) as report:
        return evaluate_pictures(pictures, reference, net, replace(options, progress=report))


def measured_reference(subject: Subject, batch: int) -> Reference:
    """Measure the reference, or read its statistics."""
    assert subject.reference is not None
    noun = "pictures" if subject.pictures is None else subject.pictures.noun
    with progress("measuring the reference", noun) as report:
        return read_reference(
            subject.reference, subject.net, subject.size, subject.split, batch, report, subject.part
        )


def cost(request: Request, subject: Subject, config: dict[str, Any], files: list[str]) -> dict[str, Any]:
    """Estimate what a measurement takes, from one batch of the samples and one of the reference."""
    net, pictures = subject.net, subject.pictures
    sets, kept = [pictures] if pictures is not None else [], False
    if subject.tokenizer is not None:
        assert pictures is not None
        rebuilt = [RebuiltPictures(subject.tokenizer, pictures, rate=rate) for rate in (OWN, *subject.rates)]
        sets = [pictures, *rebuilt]
    elif subject.reference is not None:
        real = pictures_to_measure(subject.reference, net, subject.size, subject.split, subject.part)
        kept = real is not None and is_kept(real, net)
        sets += [real] if real is not None and not kept else []
    memory = {
        "weights": estimate.tensor_bytes(net, *subject.modules),
        "features": sum(feature_bytes(len(part), net) for part in sets),
    }
    facts: dict[str, Any] = {} if pictures is None else {pictures.noun: len(pictures)}
    facts |= {"features of the reference": "are there already"} if kept else {}
    return estimate.document(
        config, ".", files, device=str(next(net.parameters()).device), record=False,
        parameters=estimate.count(net, *subject.modules), memory=memory,
        seconds=sum(seconds_of(part, subject, request.batch) for part in sets),
        kind=subject.kind, **facts, not_counted="time of the metrics and their bootstrap",
    )  # fmt: skip


def seconds_of(pictures: Pictures, subject: Subject, batch: int) -> float:
    """Estimate the seconds to read or draw pictures and to take their features."""
    device = next(subject.net.parameters()).device

    def work() -> Iterator[None]:
        for rows in torch.arange(len(pictures)).split(batch):
            images = pictures.read(rows.tolist())
            subject.net((images[:, : subject.part.count] if subject.part else images).to(device))
            yield

    return estimate.expected_seconds(work(), -(-len(pictures) // batch))


def gathered(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Gather the pictures of all processes, in order."""
    batches = [batch for process in of_all_processes(batches) for batch in process]
    rows = torch.cat([rows for rows, _ in batches])
    return torch.cat([images for _, images in batches])[rows.argsort(stable=True)]
