"""Sharing: `save_pretrained`, `from_pretrained` and `push_to_hub` of generators and tokenizers.

A folder is always enough; the Hugging Face hub is only asked where it is named. `HF_ENDPOINT`, `HF_TOKEN` and the other
settings of huggingface_hub act as they do everywhere.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from arzoo.checkpoints.folder import Checkpoint, open_checkpoint, save_parts, weights_sha256
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.names import FOREIGN, HUB, address, check_repository, is_repository
from arzoo.base.runtime import network_calls

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator
    from arzoo.core.tokenizer import Tokenizer

S = TypeVar("S", bound="Shared")
TOKENIZER = "tokenizer"
"""Where a generator's folder holds its tokenizer."""


class Shared:
    """What generators and tokenizers have in common: they are saved, loaded and pushed as a folder.

    Attributes:
        origin: The checkpoint it was loaded from; its figures and its record are saved again while the weights are
            still those.
    """

    origin: Checkpoint | None = None

    def save_pretrained(
        self, folder: str | Path, metrics: dict[str, Any] | None = None, record: dict[str, Any] | None = None
    ) -> None:
        """Write a folder that needs nothing beside it, a generator's tokenizer included; replaces a checkpoint there.

        The folder appears whole: a process that is killed leaves the former one, or none where there was none.

        Args:
            folder: Where to.
            metrics: Figures, each with its protocol; those it was loaded with by default.
            record: How the weights were made; likewise.

        Raises:
            ArzooError: The folder holds something else than a checkpoint.
        """
        save_pretrained(self, Path(folder), metrics, record)

    @classmethod
    def from_pretrained(cls: type[S], name: str | Path) -> S:
        """Load a shipped or named checkpoint, a folder, a .tar or a model of the hub (`org/name` or `hf-hub:org/name`).

        Raises:
            ArzooError: It does not exist, is damaged, or is something else.
        """
        loaded = load(_with_prefix(name))
        if not isinstance(loaded, cls):
            raise ArzooError(f"{name} is a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        message: str = "",
        metrics: dict[str, Any] | None = None,
        record: dict[str, Any] | None = None,
    ) -> str:
        """Upload to the hub, making the repository if there is none.

        Args:
            repository: `org/name`, or `org/name@branch`.
            private: Make it visible to you alone, if it is made.
            message: Of the commit.
            metrics: As in `save_pretrained`.
            record: As in `save_pretrained`.

        Returns:
            Address of the commit.

        Raises:
            ArzooError: The name is none, or the hub refuses.
        """
        check_repository(repository)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / repository.partition("@")[0].rpartition("/")[2]
            save_pretrained(self, folder, metrics, record)
            return push_folder(folder, repository, private=private, message=message)


def load(name: str | Path) -> Generator | Tokenizer:
    """A trained generator or tokenizer, see `arzoo.load`."""
    from arzoo.generation.generator import Generator

    checkpoint = open_checkpoint(name)
    loaded: Any = (
        Generator.load(checkpoint.folder) if checkpoint.kind == "generator" else checkpoint.load("tokenizer")
    )
    loaded.origin = checkpoint
    return loaded


def save_pretrained(
    model: Shared, folder: Path, metrics: dict[str, Any] | None, record: dict[str, Any] | None
) -> None:
    """See `Shared.save_pretrained`."""
    from arzoo.generation.generator import Generator
    from arzoo.core.tokenizer import Tokenizer

    if folder.exists() and any(folder.iterdir()):
        open_checkpoint(folder)  # anything else is not ours to replace
    origin = model.origin if model.origin is not None and _same_weights(model, model.origin) else None
    if origin is not None:
        metrics = origin.metrics if metrics is None else metrics
        record = origin.index.get("training") if record is None else record
    if isinstance(model, Generator):
        tokenizer = model.tokenizer
        model.save(
            folder, metrics, record, lambda partial: _save_tokenizer(tokenizer, partial / TOKENIZER, {}, {})
        )
    else:
        assert isinstance(model, Tokenizer)
        _save_tokenizer(model, folder, metrics or {}, record or {})


def push_folder(folder: Path, repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload a checkpoint folder; returns the address of the commit. Errors as those of `Shared.push_to_hub`."""
    name, branch = check_repository(repository)
    import huggingface_hub

    network_calls.append(address(name))
    message = message or f"Upload {folder.name} with arzoo"
    try:
        huggingface_hub.create_repo(name, private=private, exist_ok=True)
        done = huggingface_hub.upload_folder(
            repo_id=name, folder_path=folder, revision=branch, commit_message=message
        )
    except Exception as error:  # the hub's errors share no base class: names, access, network, disk
        raise ArzooError(
            f"cannot upload to {HUB}{repository}: {error}. Check the name, the connection and `hf auth login`."
        ) from error
    return str(done)


def _save_tokenizer(model: Tokenizer, folder: Path, metrics: dict[str, Any], record: dict[str, Any]) -> None:
    save_parts(
        folder, "tokenizer", {"tokenizer": model}, half=_is_half(model), overwrite=True, metrics=metrics,
        record=record, spec=model.spec.to_dict(),
    )  # fmt: skip


def _is_half(model: Tokenizer) -> bool:
    """Whether float16 holds every weight exactly, so that the hash a generator knows stays the same."""
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    return all(bool((value.half().to(value.dtype) == value).all()) for value in values)


def _same_weights(model: Any, origin: Checkpoint) -> bool:
    heads = {"head" if i == 0 else f"head{i}": head for i, head in enumerate(getattr(model, "heads", []))}
    parts = {"backbone": model.backbone, **heads} if heads else {"tokenizer": model}
    return parts.keys() == origin.parts.keys() and all(
        weights_sha256(part) == origin.parts[name]["weights"] for name, part in parts.items()
    )


def _with_prefix(name: str | Path) -> str | Path:
    """A text that is no path here but looks like `org/name` is a model of the hub, as in other libraries."""
    if not isinstance(name, str) or os.path.exists(name) or Path(name).suffix in FOREIGN:
        return name
    return HUB + name if is_repository(name) else name
