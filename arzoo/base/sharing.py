"""Sharing: `save_pretrained`, `from_pretrained` and `push_to_hub`, the methods that every shareable model has.

What they do lives above, where checkpoints are known; the package that is imported first says where (`PROVIDER`), so
that the contracts of networks import nothing above them. Imports no torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from arzoo.base.errors import ArzooError

PROVIDER: list[str] = []
"""Name of the module whose functions do the work; `arzoo` appends it."""
S = TypeVar("S", bound="Shared")


class Sharing(Protocol):
    """What the provider offers."""

    def load_pretrained(self, name: str | Path) -> Any:
        """A trained generator or tokenizer, by a name of the hub too."""

    def save_pretrained(
        self, model: Any, folder: Path, metrics: dict[str, Any] | None, record: dict[str, Any] | None
    ) -> None:
        """Write a folder that needs nothing beside it."""

    def push_to_hub(
        self,
        model: Any,
        repository: str,
        private: bool,
        message: str,
        metrics: dict[str, Any] | None,
        record: dict[str, Any] | None,
    ) -> str:
        """Upload a folder; the address of the commit."""


class Shared:
    """What generators and tokenizers have in common: they are saved, loaded and pushed as a folder.

    Attributes:
        origin: The checkpoint it was loaded from; its figures and its record are saved again while the weights are
            still those.
    """

    origin: Any = None

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
        _sharing().save_pretrained(self, Path(folder), metrics, record)

    @classmethod
    def from_pretrained(cls: type[S], name: str | Path) -> S:
        """Load a shipped or named checkpoint, a folder, a .tar or a model of the hub (`org/name` or `hf-hub:org/name`).

        Raises:
            ArzooError: It does not exist, is damaged, or is something else.
        """
        loaded = _sharing().load_pretrained(name)
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
        return _sharing().push_to_hub(self, repository, private, message, metrics, record)


def _sharing() -> Sharing:
    return cast(Sharing, importlib.import_module(PROVIDER[0]))
