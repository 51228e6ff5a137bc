"""`arzoo evaluate`: score pictures or a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import note, table
from arzoo.base.errors import UsageError
from arzoo.base.files import RECORD
from arzoo.cli.curve import CURVE, curve_table, draw_curve
from arzoo.cli.options import refuse_below, refuse_others
from arzoo.cli.output import output_folder, refuse_occupied

if TYPE_CHECKING:
    import torch

    from arzoo.metrics.measurement import Measurement
    from arzoo.metrics.subject import Request, Subject

OF_SEGMENTS = frozenset({"samples", "reference", "task", "out", "overwrite", "threads"})
"""Options that mean something with --task segmentation."""
ONLY_THESE = (
    "of pictures, not of segments. With --task segmentation there are SAMPLES, --reference, --out, --overwrite and "
    "--threads"
)


@dataclass(kw_only=True)
class Evaluate:
    """Compare pictures or clips, those that a generator draws, or reconstructions of a tokenizer with a reference.

    Every result has its protocol; scores of different protocols cannot be compared. A figure is called FID or FVD only
    with the network of that convention. Figures do not depend on --batch or the number of processes.
    """

    samples: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SAMPLES")] = ""
    """A folder of pictures (also of `arzoo generate`), an npz file, a data set (validation), or a checkpoint."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """A data set, a folder of pictures, or an npz file of pictures or statistics; a checkpoint's data by default."""
    split: Literal["auto", "train", "validation", "all"] = "auto"
    """Split of a reference data set, or of the folder a checkpoint was trained on: auto is validation for tokenizers,
    else train."""
    task: Literal["pictures", "segmentation"] = "pictures"
    """What the samples are: pictures or clips; or segments of a volume, given as a file, with labels as --reference, or
    as a segmenter, which then segments the reference (em_synthetic by default)."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Metrics (see `arzoo models --kind metric`); all that apply by default."""
    preset: (
        Literal[
            "adm", "torch-fidelity", "pytorch-fid", "clean", "dgm-dinov2", "stylegan-v", "cd-fvd-i3d",
            "cd-fvd-videomae", "nbp-fvd",
        ]
        | None
    ) = None  # fmt: skip
    """Follow a published tool: its network, resizing, scaling, splits, subsets, neighbors and frames."""
    net: Annotated[str | None, tyro.conf.arg(metavar="NAME|NAME=PATH")] = None
    """Feature network (see `arzoo models --kind feature_net`), with the path of its weights if they are elsewhere;
    effnet_lite0, for clips clip_probe, or that of the preset, by default."""
    num: int = 0
    """Number of pictures, evenly spread; 0 means all, or 1000 drawn by a generator."""
    frames: int = 0
    """Number of first frames of clips that are scored; 0 means all, or as many as a preset takes (16)."""
    keep: int = 0
    """Number of first frames of clips of the reference that a generator is given and continues; 0 gives none."""
    score: Literal["all", "new"] = "all"
    """With --keep: whether all frames are scored, or only those that were not given."""
    fps: float | None = None
    """Frames per second to which the files of a folder of clips are resampled; every frame is taken by default."""
    stride: int | None = None
    """Frames from the beginning of a clip to that of the next one of the same file; side by side by default."""
    seed: int = 0
    """Seed of the pictures that a generator draws."""
    batch: int = 32
    """Pictures per batch; changes speed and memory, not the figures."""
    bootstrap: int = 20
    """Resamples for the standard errors; 0 leaves them out."""
    by: Literal["auto", "classes", "captions"] = "auto"
    """What a generator draws for the score: auto is captions of the reference if it reads text, else classes."""
    tokenizer: Annotated[str | None, tyro.conf.arg(metavar="TOKENIZER")] = None
    """The generator's tokenizer, if it is not where the checkpoint records it."""
    tokens: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[N ...]")] = ()
    """For a tokenizer of ordered tokens: points of its curve, prefixes of N tokens; powers of two by default."""
    quality: Annotated[tuple[float, ...], tyro.conf.arg(metavar="[ERROR ...]")] = ()
    """For a tokenizer of adaptive tokens: points of its curve, acceptable mean absolute errors of pixels in 0..1; from
    the largest one down by halves by default."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder for evaluation.json and the plot of a curve; the figures of a checkpoint are also written to its
    metrics.json."""
    save_statistics: Annotated[str | None, tyro.conf.arg(metavar="NPZ")] = None
    """Write mean and covariance of the samples' features, for use as a reference."""
    save_samples: Annotated[str | None, tyro.conf.arg(metavar="NPZ")] = None
    """Write the samples, shuffled, in the layout of the ADM evaluator."""
    self_check: bool = False
    """Compare every metric with known results; needs no samples."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps."""
    threads: int = 0
    """CPU threads; 0 leaves the number as it is."""
    overwrite: bool = False
    """Replace files that exist."""
    dry_run: bool = False
    """Show settings, memory, expected time and files; computes one batch and writes nothing."""

    examples: ClassVar = (
        "arzoo evaluate out/nar_emoji64 --reference emoji64",
        "arzoo evaluate samples.npz --reference VIRTUAL_imagenet256_labeled.npz --preset adm",
        "arzoo evaluate out/segments.h5 --reference labels.h5 --task segmentation",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Compute the scores; the document has figures, protocol and warnings."""
        self.check()
        if self.self_check:
            from arzoo.metrics.selfcheck import self_check

            return {"checks": self_check()}
        from arzoo.base import runtime
        from arzoo.metrics.measurement import cost, measure
        from arzoo.metrics.subject import find

        runtime.set_threads(self.threads)
        if self.task == "segmentation":
            return self.segmentation(arguments)
        rank, started = self.join(), time.perf_counter()
        request = self.request()
        subject = find(request, self.place())
        measurement = None if self.dry_run else measure(request, subject)
        if rank:
            raise SystemExit(0)  # the first process has the document
        if measurement is None:
            return cost(request, subject, self.settings(), self.files(subject))
        document = measurement.document()
        document |= {
            "seconds": round(time.perf_counter() - started, 3),
            "versions": runtime.versions(),
        }
        document["written"] = self.write(document, measurement, arguments)
        return document

    def segmentation(self, arguments: list[str]) -> dict[str, Any]:
        """Score segments; the document is like that of pictures.

        Raises:
            UsageError: A launcher started several processes, which have nothing to share here.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("--task segmentation works in one process: start it without the launcher")
        from arzoo.metrics.record import EVALUATION
        from arzoo.metrics.segmentation import evaluate_segmentation

        document = evaluate_segmentation(self.samples, self.reference)
        if self.out:
            with output_folder(self.out, self.overwrite, arguments) as output:
                text = json.dumps(document, indent=2, ensure_ascii=False)
                output.path(EVALUATION).write_text(text + "\n", encoding="utf-8")
            document["written"].append(str(Path(self.out) / EVALUATION))
        return document

    def show(self, document: dict[str, Any]) -> None:
        """Print a table of figures, then their protocol and remarks."""
        if "checks" in document:
            print(table((name, "as expected") for name in document["checks"]))
            return
        rows = [
            (
                name,
                _rounded(figure["value"]),
                _rounded(figure["error"]),
                figure["better"] or "",
                figure["definition"],
            )
            for name, figure in document["figures"].items()
        ]
        if rows:
            print(table(rows, ("figure", "value", "error", "better", "definition")))
            if "curve" in document:
                print(f"\n{curve_table(document['curve'])}")
            for name, values in document.get("by_frame", {}).items():
                print(f"{name} by frame: {' '.join(map(_rounded, values))}")
            print(f"\nprotocol {document['comparable']}")
            print(table((f"  {name}", value) for name, value in document["protocol"].items()))
            if document.get("resized"):
                print(f"resized: {document['resized']}")
        for name, figure in document["figures"].items():
            if figure.get("no_error"):
                print(f"without error: {name} ({figure['no_error']})")
        for name, reason in document["left_out"].items():
            print(f"left out: {name} ({reason})")
        for text in document["warnings"]:
            print(f"warning: {text}")
        for text in document["written"]:
            print(f"written: {text}")

    def check(self) -> None:
        """Check the options before anything is loaded.

        Raises:
            UsageError: A number is out of range, or no samples are given.
            ArzooError: An output file exists.
        """
        refuse_below(self, num=0, frames=0, keep=0, batch=1, bootstrap=0)
        if self.num == 1:
            raise UsageError(
                "--num 1 is too few: distances need at least 2 pictures, and thousands to be precise"
            )
        if self.tokens and self.quality:
            raise UsageError("a curve is over prefixes or over target errors: give --tokens or --quality")
        if self.task == "segmentation":
            refuse_others(self, OF_SEGMENTS, ONLY_THESE)
        if not self.samples and not self.self_check:
            raise UsageError("no samples are given: arzoo evaluate SAMPLES --reference DATA, or --self-check")
        if self.score == "new" and not self.keep:
            raise UsageError("--score new leaves out the given frames: say how many with --keep")
        if self.out:
            refuse_occupied(Path(self.out), self.overwrite)
        for path in filter(None, (self.save_statistics, self.save_samples)):
            from arzoo.data.npz import refuse_name

            refuse_name(Path(path), self.overwrite)

    def join(self) -> int:
        """Join the group of processes of a launcher, if there is one, and return the rank of this process.

        Only statistics are exchanged, so the group communicates on the CPU whatever device computes.
        """
        import torch

        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return 0
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return torch.distributed.get_rank()

    def place(self) -> torch.device:
        """Return the device of this process."""
        from arzoo.base import runtime

        device, local = runtime.choose_device(self.device), os.environ.get("LOCAL_RANK")
        return runtime.choose_device(f"cuda:{local}") if local and str(device) == "cuda" else device

    def request(self) -> Request:
        """Return the request for the library."""
        from arzoo.metrics.subject import Request

        return Request(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Request)})

    def settings(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def files(self, subject: Subject) -> list[str]:
        """Return the paths of the files that `write` writes."""
        from arzoo.metrics.record import EVALUATION, files_of_record, writable
        from arzoo.viz.plots import can_plot

        checkpoint = subject.checkpoint
        paths = [*filter(None, (self.save_statistics, self.save_samples))]
        if checkpoint is not None and not writable(self.samples, checkpoint):
            paths += map(str, files_of_record(checkpoint))
        curve = [CURVE] if subject.rates and can_plot() else []
        return paths + (
            [str(Path(self.out) / name) for name in (EVALUATION, *curve, RECORD)] if self.out else []
        )

    def write(self, document: dict[str, Any], measurement: Measurement, arguments: list[str]) -> list[str]:
        """Write the requested files, and the figures of a checkpoint into its folder; return the paths."""
        from arzoo.metrics.record import EVALUATION, record, writable

        files = self.files(measurement.subject)
        measurement.save(self.save_statistics, self.save_samples, self.overwrite)
        if measurement.checkpoint is not None:
            reason = writable(self.samples, measurement.checkpoint)
            if not reason:
                record(measurement.checkpoint, document)
            elif not self.out:
                note(f"{reason}; --out FOLDER keeps the figures")
            else:
                note(f"{reason}; the figures are in {self.out}")
        if "curve" in document and not self.out:
            note("--out FOLDER keeps the curve, and its plot")
        if self.out:
            with output_folder(self.out, self.overwrite, arguments) as output:
                text = json.dumps(document, indent=2, ensure_ascii=False)
                output.path(EVALUATION).write_text(text + "\n", encoding="utf-8")
                if "curve" in document:
                    draw_curve(document, output)
                output.facts |= {"config": self.settings(), "seconds": document["seconds"]}
                output.facts["remarks"] = document["warnings"]
        return files


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
