"""`arzoo convert`: import published checkpoints, and store checkpoints of this library in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import human_bytes, note
from arzoo.base.errors import UnknownName, UsageError
from arzoo.base.registry import called

if TYPE_CHECKING:
    from arzoo.checkpoints.conversion import Recognised
    from arzoo.checkpoints.published import Source


@dataclass(kw_only=True)
class Convert:
    """Import a published checkpoint, or store one of this library in fewer bits.

    Every published tensor must have a place in the model and every parameter a tensor. No code in a file is run.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A published file (.safetensors, .pt, .pth), hf-hub:org/name/file, a name of `arzoo models --kind published`, or a
    checkpoint folder of this library."""
    target: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DST")] = None
    """The checkpoint folder to write; if left out, a checkpoint that every command knows by the name of the published
    model, or else of the file."""
    layout: Annotated[str | None, tyro.conf.arg(metavar="LAYOUT")] = None
    """The source of the weights, for example llamagen; recognized by the names of tensors if left out."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="[KEY=VALUE ...]")] = ()
    """Settings that do not follow from the weights, for example heads=12; each source documents its own."""
    tokenizer: Annotated[str | None, tyro.conf.arg(metavar="TOKENIZER")] = None
    """For generators: the checkpoint of the tokenizer whose tokens it models; recorded in the checkpoint."""
    weights: Literal["ema", "raw"] | None = None
    """Which weights of a training checkpoint to take: the averaged ones (ema) or the trained ones (raw). If left out,
    those that the authors evaluate: averaged for MAR, xAR, FlowAR and VQ tokenizers; the only ones if there is one
    kind."""
    bits: Literal[8, 16, 32] | None = None
    """Bits per stored weight, 32 if left out; with 8, small tensors are stored in 16."""
    overwrite: bool = False
    """Replace a folder that exists."""
    dry_run: bool = False
    """Convert in memory and show parts, sizes and files; write nothing."""

    examples: ClassVar = (
        "arzoo convert c2i_B_256.pt",
        "arzoo convert c2i_B_256.pt checkpoints/llamagen_b --layout llamagen",
        "arzoo convert runs/vq checkpoints/vq_small --bits 8",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Convert and write."""
        from arzoo.checkpoints.index import INDEX
        from arzoo.checkpoints.runs import newest
        from arzoo.cli.output import refuse_occupied

        if self.target is not None:
            refuse_occupied(Path(self.target), self.overwrite)
        folder = Path(self.source)
        if (folder / INDEX).exists() or newest(folder) is not None:
            return self._stored_again()
        from arzoo.checkpoints.conversion import save_conversion
        from arzoo.checkpoints.published import locate
        from arzoo.checkpoints.store import folder_bytes

        self._check_layout()
        source = locate(self.source)
        # A name that is known is checked before the file is read, which may take minutes.
        target = self.target or (self._named(source.entry.name) if source.entry else None)
        found = self._recognised(source)
        conversion, entry, _ = found
        target = target or self._named(entry.name if entry else source.path.stem)
        if self.dry_run:
            return {**self._estimate(target, conversion.parts), **_published(found)}
        written = save_conversion(
            conversion, source.path, target, self.tokenizer, self.bits or 32, self.overwrite, entry
        )
        return {
            "folder": str(written.folder),
            "kind": written.kind,
            "bytes": folder_bytes(written.folder),
            "weights": conversion.taken,
            **_published(found),
            "parts": written.parts,
        }

    def show(self, document: dict[str, Any]) -> None:
        """Print the folder and the parts of the checkpoint."""
        taken = f", made of {document['weights']}" if "weights" in document else ""
        print(f"{document['kind']} in {document['folder']}, {human_bytes(document['bytes'])}{taken}")
        for part, facts in document["parts"].items():
            print(f"  {part}: {facts['class']}, {facts['parameters']:,} parameters")

    def _check_layout(self) -> None:
        """Refuse mistyped options before a large file is read."""
        from arzoo.base.parser import assignments
        from arzoo.models.common.convert import SOURCES

        assignments(self.settings)
        if self.layout is not None and self.layout not in SOURCES:
            raise UnknownName("layout of weights", self.layout, SOURCES)

    def _recognised(self, source: Source) -> Recognised:
        """Convert a published file in memory and say what it is; errors as those of `recognised`."""
        from arzoo.base.parser import assignments
        from arzoo.checkpoints.conversion import recognised

        found = recognised(source, self.layout, self.weights, assignments(self.settings))
        if found.conversion.remark:
            note(found.conversion.remark)
        note(_in_words(found))
        return found

    def _named(self, name: str) -> str:
        """Return the folder of a checkpoint with a name of this user."""
        from arzoo.checkpoints.store import tagged

        return str(tagged(name, self.overwrite))

    def _stored_again(self) -> dict[str, Any]:
        """Store a checkpoint of this library in fewer bits."""
        from arzoo.checkpoints.conversion import refuse_same_bits, save_again
        from arzoo.checkpoints.folder import load_parts
        from arzoo.checkpoints.store import folder_bytes

        if self.target is None:
            raise UsageError(f"{self.source} is a checkpoint of arzoo: say where to store it again, as DST")
        refuse_same_bits(self.source, self.bits)
        if self.dry_run:
            return self._estimate(self.target, load_parts(self.source)[1])
        written = save_again(self.source, self.target, self.bits, self.overwrite)
        return {
            "folder": str(written.folder),
            "kind": written.kind,
            "bytes": folder_bytes(written.folder),
            "parts": written.parts,
        }

    def _estimate(self, target: str, parts: dict[str, Any]) -> dict[str, Any]:
        """Return the estimate of a dry run for these parts."""
        from arzoo.base import estimate
        from arzoo.base.weights import to_storage

        files = [f"{part}/{name}" for part in parts for name in ("config.json", "model.safetensors")]
        stored = [
            to_storage(module.state_dict(), self.bits or 32, getattr(module, "precise", ()))
            for module in parts.values()
        ]
        size = sum(value.numel() * value.element_size() for part in stored for value in part.values())
        names = ("source", "layout", "settings", "weights", "tokenizer", "bits")
        config = {name: getattr(self, name) for name in names}
        return estimate.document(
            {**config, "settings": list(self.settings)}, target,
            [*files, "model_index.json", "metrics.json", "README.md"], parameters=estimate.count(*parts.values()),
            memory={"weights": estimate.tensor_bytes(*parts.values())}, bytes=size, record=False,
            parts={part: called(module) for part, module in parts.items()},
        )  # fmt: skip


def _published(found: Recognised) -> dict[str, Any]:
    """Return what a file is known to be, as plain data."""
    if found.entry is None:
        return {"may_be": [entry.name for entry in found.alike]} if found.alike else {}
    return {"published": found.entry.name, "licence": found.entry.licence or None, "at": found.entry.link}


def _in_words(found: Recognised) -> str:
    """Say what a file is known to be."""
    from arzoo.checkpoints.published import UNKNOWN

    layout, entry = found.conversion.source, found.entry
    others = [other for other in found.alike if other is not entry]
    choices = ", ".join(f"{other.name}{_settings(other.settings)}" for other in others)
    if entry is not None:
        more = (
            f" Weights of this layout and size are also {choices}: convert by name for those."
            if others
            else ""
        )
        return (
            f"layout {layout}: {entry}, published at {entry.link}, license: {entry.licence or UNKNOWN}.{more}"
        )
    if others:
        return (
            f"layout {layout}: its sizes are those of {choices}, which the weights do not tell from weights of your "
            "own. If it is one of them, say its settings with --set, or convert it by that name."
        )
    return f"layout {layout}, of no size that is known to be published"


def _settings(settings: dict[str, Any]) -> str:
    """Return settings as they are typed, in brackets."""
    typed = " ".join(f"{key}={value}".replace(" ", "") for key, value in settings.items())
    return f" ({typed})" if typed else ""
