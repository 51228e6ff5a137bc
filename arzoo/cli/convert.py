"""`arzoo convert`: import published checkpoints, and store checkpoints of this library in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.console import human_bytes, note
from arzoo.base.errors import ArzooError, UnknownName

if TYPE_CHECKING:
    from arzoo.models.common.convert import Conversion


@dataclass(kw_only=True)
class Convert:
    """Import a published checkpoint, or store one of this library in fewer bits.

    Every published tensor must have a place in the model and every parameter a tensor. No code in a file is run.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A published file (.safetensors, .pt, .pth), or a checkpoint folder of this library."""
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DST")]
    """The checkpoint folder to write."""
    layout: Annotated[str | None, tyro.conf.arg(metavar="LAYOUT")] = None
    """The source of the weights, for example llamagen; recognised by the names of tensors if left out."""
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
        "arzoo convert c2i_B_256.pt checkpoints/llamagen_b --layout llamagen",
        "arzoo convert runs/vq checkpoints/vq_small --bits 8",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Convert and write."""
        from arzoo.checkpoints.index import INDEX
        from arzoo.cli.output import refuse_occupied

        refuse_occupied(Path(self.target), self.overwrite)
        source = Path(self.source)
        own = any((folder / INDEX).exists() for folder in (source, source / "checkpoint"))
        if self.dry_run:
            return self.estimate(own)
        from arzoo.checkpoints.conversion import save_again, save_conversion
        from arzoo.checkpoints.store import folder_bytes

        if own:
            written, facts = save_again(source, self.target, self.bits, self.overwrite), {}
        else:
            conversion = self.converted()
            written = save_conversion(
                conversion, source, self.target, self.tokenizer, self.bits or 32, self.overwrite
            )
            facts = {"weights": conversion.taken}
        return {
            "folder": str(written.folder),
            "kind": written.kind,
            "bytes": folder_bytes(written.folder),
            **facts,
            "parts": written.parts,
        }

    def show(self, document: dict[str, Any]) -> None:
        """Print the folder and the parts of the checkpoint."""
        taken = f", made of {document['weights']}" if "weights" in document else ""
        print(f"{document['kind']} in {document['folder']}, {human_bytes(document['bytes'])}{taken}")
        for part, facts in document["parts"].items():
            print(f"  {part}: {facts['class']}, {facts['parameters']:,} parameters")

    def estimate(self, own: bool) -> dict[str, Any]:
        """Return the estimate of a dry run, after a conversion in memory.

        Args:
            own: Whether the source is a checkpoint of this library.
        """
        from arzoo.base import estimate
        from arzoo.base.weights import to_storage
        from arzoo.checkpoints.conversion import refuse_same_bits
        from arzoo.checkpoints.folder import load_parts

        if own:
            refuse_same_bits(self.source, self.bits)
        parts = load_parts(self.source)[1] if own else self.converted().parts
        files = [f"{part}/{name}" for part in parts for name in ("config.json", "model.safetensors")]
        stored = [
            to_storage(module.state_dict(), self.bits or 32, getattr(module, "precise", ()))
            for module in parts.values()
        ]
        size = sum(value.numel() * value.element_size() for part in stored for value in part.values())
        names = ("source", "layout", "settings", "weights", "tokenizer", "bits")
        config = {name: getattr(self, name) for name in names}
        return estimate.document(
            {**config, "settings": list(self.settings)}, self.target,
            [*files, "model_index.json", "metrics.json", "README.md"], parameters=estimate.count(*parts.values()),
            memory={"weights": estimate.tensor_bytes(*parts.values())}, bytes=size, record=False,
            parts={part: type(module).__name__ for part, module in parts.items()},
        )  # fmt: skip

    def converted(self) -> Conversion:
        """Convert a published checkpoint in memory.

        Raises:
            ArzooError: The file does not exist, or it cannot be converted.
        """
        from arzoo.base.parser import assignments, typed
        from arzoo.models.common.convert import SOURCES, convert_opened, open_file, settings_of

        pairs = assignments(self.settings)  # refuses mistyped ones before a large file is read
        if not Path(self.source).is_file():
            raise ArzooError(f"there is no file {self.source}, and no checkpoint of that name")
        if self.layout is not None and self.layout not in SOURCES:
            raise UnknownName("layout of weights", self.layout, SOURCES)
        file, source = open_file(self.source, self.layout, self.weights)
        hints = settings_of(source)
        settings = {name: typed(text, hints.get(name, str), name) for name, text in pairs.items()}
        conversion = convert_opened(file, source, **settings)
        if conversion.remark:
            note(conversion.remark + "; --weights ema or raw chooses")
        return conversion
