"""`arzoo convert`: published checkpoints into ours, and ours into fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.files import file_sha256
from arzoo.samplers.schedules import control_to_data

if TYPE_CHECKING:
    from arzoo.checkpoints.folder import Checkpoint
    from arzoo.models.common.convert import Conversion


@dataclass(kw_only=True)
class Convert:
    """Bring a published checkpoint in, or store one of ours in fewer bits.

    Every published tensor must find its place; nothing is left out or made up. No code in a file is run.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A published file (.safetensors, .pt, .pth), or a checkpoint folder of ours."""
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DST")]
    """The checkpoint folder to write."""
    layout: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Whose weights they are, for example llamagen; recognised by their names if left out."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="[KEY=VALUE ...]")] = ()
    """What the weights do not say, for example heads=12; each source documents its own."""
    tokenizer: Annotated[str | None, tyro.conf.arg(metavar="TOKENIZER")] = None
    """For generators: the checkpoint of the tokenizer whose codes it models, recorded so that it can draw."""
    bits: Literal[8, 16, 32] | None = None
    """Bits of a stored weight, 32 if left out; 8 are for large tensors, the others get 16."""
    overwrite: bool = False
    """Replace a folder that exists."""
    dry_run: bool = False
    """Convert in memory, show parts, sizes and files, and write nothing."""

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
            return self.plan(own)
        written = self.copy() if own else self.bring_in()
        size = sum(path.stat().st_size for path in written.folder.rglob("*") if path.is_file())
        return {"folder": str(written.folder), "kind": written.kind, "bytes": size, "parts": written.parts}

    def show(self, document: dict[str, Any]) -> None:
        """Where it is and what it holds."""
        print(f"{document['kind']} in {document['folder']}, {document['bytes'] / 2**20:.1f} MiB")
        for part, facts in document["parts"].items():
            print(f"  {part}: {facts['class']}, {facts['parameters']:,} parameters")

    def plan(self, own: bool) -> dict[str, Any]:
        """What would be written, converted in memory."""
        from arzoo.base import estimate
        from arzoo.checkpoints.folder import load_parts
        from arzoo.checkpoints.weights import to_storage

        if own:
            self.refuse_copy()
        parts = load_parts(self.source)[1] if own else self.converted().parts
        files = [f"{part}/{name}" for part in parts for name in ("config.json", "model.safetensors")]
        stored = [
            to_storage(module.state_dict(), self.bits or 32, getattr(module, "precise", ()))
            for module in parts.values()
        ]
        size = sum(value.numel() * value.element_size() for part in stored for value in part.values())
        config = {name: getattr(self, name) for name in ("source", "layout", "settings", "tokenizer", "bits")}
        return estimate.plan(
            {**config, "settings": list(self.settings)}, self.target,
            [*files, "model_index.json", "metrics.json", "README.md"], parameters=estimate.count(*parts.values()),
            memory={"weights": estimate.tensor_bytes(*parts.values())}, bytes=size, record=False,
            parts={part: type(module).__name__ for part, module in parts.items()},
        )  # fmt: skip

    def refuse_copy(self) -> None:
        """One of ours is only written again in bits that were asked for.

        Raises:
            ArzooError: `bits` is left out.
        """
        if self.bits is None:
            raise ArzooError(
                f"{self.source} is a checkpoint of arzoo already. Add --bits 16 to store it in half the size of "
                "float32, or --bits 8 in a quarter."
            )

    def copy(self) -> Checkpoint:
        """One of ours, written again."""
        from arzoo.checkpoints.folder import load_parts, save_parts

        self.refuse_copy()
        checkpoint, parts = load_parts(self.source)
        own = {"format", "kind", "arzoo", "commit", "torch", "parts", "training", "seal"}
        facts = {key: value for key, value in checkpoint.index.items() if key not in own}
        names = {part: stored["name"] for part, stored in checkpoint.parts.items() if stored.get("name")}
        return save_parts(
            self.target, checkpoint.kind, parts, names=names, bits=self.bits or 32, overwrite=self.overwrite,
            metrics=checkpoint.metrics, record=checkpoint.index.get("training"), **facts,
        )  # fmt: skip

    def converted(self) -> Conversion:
        """A published one, in memory."""
        from arzoo.cli.train import changes
        from arzoo.models.common.convert import SOURCES, convert_file

        if not Path(self.source).is_file():
            raise ArzooError(f"there is no file {self.source}, and no checkpoint of that name")
        if self.layout is not None and self.layout not in SOURCES:
            raise UnknownName("layout of weights", self.layout, SOURCES)
        return convert_file(self.source, self.layout, **changes(self.settings))

    def bring_in(self) -> Checkpoint:
        """A published one, written."""
        from arzoo.checkpoints.folder import save_parts

        found = self.converted()
        record = {"converted": Path(self.source).name, "layout": found.source}
        record["sha256"] = file_sha256(self.source)
        kind = "tokenizer" if "tokenizer" in found.parts else "generator"
        facts: dict[str, Any] = {"plan": found.plan} if found.plan else {}
        if kind == "tokenizer":
            facts["spec"] = found.parts["tokenizer"].spec.to_dict()  # type: ignore[operator, union-attr]
        if kind == "generator":
            count = getattr(getattr(found.parts.get("backbone"), "config", None), "classes", 0)
            facts |= {
                "classes": [str(label) for label in range(count)],
                "controls": control_to_data(found.control),
            }
            facts["tokenizer"] = self.named_tokenizer()
        return save_parts(
            self.target,
            kind,
            found.parts,
            bits=self.bits or 32,
            overwrite=self.overwrite,
            record=record,
            **facts,
        )

    def named_tokenizer(self) -> dict[str, str]:
        """Name and weights of the generator's tokenizer, empty if none is given."""
        from arzoo.checkpoints.folder import open_checkpoint
        from arzoo.checkpoints.names import BUNDLED

        if self.tokenizer is None:
            return {}
        found = open_checkpoint(self.tokenizer, "tokenizer")
        name = self.tokenizer if found.folder.parent == BUNDLED else str(found.folder.resolve())
        return {"name": name, "sha256": found.parts["tokenizer"]["weights"]}
