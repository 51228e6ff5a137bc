"""Sharing of models: the methods `save_pretrained`, `from_pretrained` and `push_to_hub`.

Their implementation is on a higher floor, where checkpoints are known. The package `arzoo` names its module in
`PROVIDER`, so that the contracts of networks import nothing above them. Imports no torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from arzoo.base.errors import ArzooError

PROVIDER: list[str] = []
"""Name of the module with the implementation; `arzoo` appends it."""
S = TypeVar("S", bound="Shared")


class Sharing(Protocol):
    """Functions of the provider."""

    def load_pretrained(self, name: str | Path) -> Any:
        """Load a trained generator or tokenizer, also from the hub."""

    def save_pretrained(
        self, model: Any, folder: Path, metrics: dict[str, Any] | None, record: dict[str, Any] | None
    ) -> None:
        """Write a self-contained folder."""

    def push_to_hub(
        self,
        model: Any,
        repository: str,
        private: bool,
        message: str,
        metrics: dict[str, Any] | None,
        record: dict[str, Any] | None,
    ) -> str:
        """Upload a folder and return the address of the commit."""


class Shared:
    """Base of generators and tokenizers, which are saved, loaded and pushed as a folder.

    Attributes:
        origin: The checkpoint the model was loaded from; its figures and its record are saved again as long as the
            weights are unchanged.
    """

    origin: Any = None

    def save_pretrained(
        self, folder: str | Path, metrics: dict[str, Any] | None = None, record: dict[str, Any] | None = None
    ) -> None:
        """Write a self-contained folder, including a generator's tokenizer; replaces a checkpoint in the folder.

        The folder appears complete: if the process is killed, the former folder stays, or none if there was none.

        Args:
            folder: The folder to write.
            metrics: Figures, each with its protocol; by default those the model was loaded with.
            record: How the weights were made; by default the record the model was loaded with.

        Raises:
            ArzooError: The folder holds something other than a checkpoint.
        """
        _sharing().save_pretrained(self, Path(folder), metrics, record)

    @classmethod
    def from_pretrained(cls: type[S], name: str | Path) -> S:
        """Load a shipped or named checkpoint, a folder, a .tar or a model of the hub (`org/name` or `hf-hub:org/name`).

        Raises:
            ArzooError: The checkpoint does not exist, is damaged, or is of another class.
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
        """Upload the model to the hub; the repository is created if it does not exist.

        Args:
            repository: `org/name`, or `org/name@branch`.
            private: Make a new repository private.
            message: Message of the commit.
            metrics: As in `save_pretrained`.
            record: As in `save_pretrained`.

        Returns:
            Address of the commit.

        Raises:
            ArzooError: The name is not valid, or the hub refuses the upload.
        """
        return _sharing().push_to_hub(self, repository, private, message, metrics, record)


def _sharing() -> Sharing:
    return cast(Sharing, importlib.import_module(PROVIDER[0]))
