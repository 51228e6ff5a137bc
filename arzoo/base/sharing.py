"""Methods of models that need more than models: saving and sharing them, and pictures as users have them.

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
        """Load a trained model, also from the hub."""

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

    def encode_images(self, tokenizer: Any, images: Any, quality: float | None) -> Any:
        """Encode pictures or clips as generators take them."""

    def decode_images(self, tokenizer: Any, tokens: Any) -> Any:
        """Decode tokens to pictures or clips as generators draw them."""


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
            raise ArzooError(f"{name} is a {_kind(type(loaded))}, not a {_kind(cls)}")
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


class OfImages:
    """Base of tokenizers, which take and give pictures in the layout of generators too."""

    def encode_images(self, images: Any, quality: float | None = None) -> Any:
        """Encode pictures or clips.

        Args:
            images: As for `Generator.encode`: PIL images or files, which are resized and cropped to the size of the
                tokenizer, one or a list; or (B, H, W, 3) or (B, T, H, W, 3) uint8.
            quality: For tokenizers with `qualities`: acceptable mean absolute error of pixels in [0, 1].

        Returns:
            Their `Tokens`.

        Raises:
            ArzooError: Arrays have another shape or type, a file cannot be read, or the tokenizer takes no quality.
        """
        return _sharing().encode_images(self, images, quality)

    def decode_images(self, tokens: Any) -> Any:
        """Decode tokens to pictures or clips.

        Args:
            tokens: What `encode_images` or `encode` returns.

        Returns:
            Drawings as of `Generator.decode`: a tensor (B, T, H, W, 3) uint8 with `.images` and `.save(...)`.

        Raises:
            ArzooError: They are not tokens of this tokenizer.
        """
        return _sharing().decode_images(self, tokens)

    def reconstruct(self, images: Any, quality: float | None = None) -> Any:
        """Encode and decode pictures or clips; arguments as for `encode_images`, the result as of `decode_images`."""
        return self.decode_images(self.encode_images(images, quality))


def _kind(cls: type) -> str:
    """What users call a model of a class, a tokenizer with its family."""
    if not issubclass(cls, OfImages):
        return "generator" if issubclass(cls, Shared) else cls.__name__.lower()
    from arzoo.base.registry import called

    return f"tokenizer ({called(cls)})" if ".tokenizers." in cls.__module__ else "tokenizer"


def _sharing() -> Sharing:
    return cast(Sharing, importlib.import_module(PROVIDER[0]))
