"""CLIP and SigLIP as verifiers, where their weights are on this machine.

"Learning Transferable Visual Models From Natural Language Supervision", 2021; "Sigmoid Loss for Language Image
Pre-Training", 2023. The package transformers reads them from a folder or from the cache of the Hugging Face hub;
nothing is downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, require
from arzoo.base.paths import cached_repository, expanded
from arzoo.base.registry import register
from arzoo.models.text.encoders import quiet
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

_BATCH = 32


class PairVerifier(PictureVerifier):
    """Cosine of picture and prompt in the common space of a published pair of networks.

    Args:
        subject: The prompt. Texts longer than the network reads are cut.
        source: A folder in the layout of transformers, or a repository in the local cache of the hub.

    Raises:
        MissingPackage: transformers is not installed.
        ArzooError: The weights are not on this machine, or of another kind.
    """

    needs, range, extra = frozenset({"prompt"}), (-1.0, 1.0), "text"
    kind = ""

    def __init__(self, subject: Subject, source: str) -> None:
        self.prompt, self.networks = subject.prompt, frozenset({source})
        self.net, self.processor, self.tokenizer = load_pair(source, self.kind)

    @torch.no_grad()
    def score_images(self, images: Tensor) -> Tensor:
        """Return the cosines (B,) of pictures (B, H, W, 3) uint8 and the prompt."""
        length = self.net.config.text_config.max_position_embeddings
        # SigLIP was trained on texts that are padded to the full length, and is wrong about shorter ones.
        ids = self.tokenizer(
            [self.prompt], padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )["input_ids"]
        return torch.cat([self._cosines(part, ids) for part in batched(images)])

    def _cosines(self, images: Tensor, ids: Tensor) -> Tensor:
        pixels = self.processor(images=list(images.permute(0, 3, 1, 2)), return_tensors="pt")
        output = self.net(input_ids=ids, pixel_values=pixels["pixel_values"])
        return (output.image_embeds @ output.text_embeds.T)[:, 0]


@register("verifier", "clip")
class Clip(PairVerifier):
    """Cosine of picture and prompt in CLIP; its weights must be on this machine."""

    name, kind = "clip", "clip"
    networks = frozenset({"openai/clip-vit-base-patch16"})

    def __init__(self, subject: Subject, source: str = "openai/clip-vit-base-patch16") -> None:
        super().__init__(subject, source)


@register("verifier", "siglip")
class Siglip(PairVerifier):
    """Cosine of picture and prompt in SigLIP; its weights must be on this machine."""

    name, kind = "siglip", "siglip"
    networks = frozenset({"google/siglip-base-patch16-224"})

    def __init__(self, subject: Subject, source: str = "google/siglip-base-patch16-224") -> None:
        super().__init__(subject, source)


def batched(images: Tensor) -> Sequence[Tensor]:
    """Split pictures (n, H, W, 3) into batches that such networks look at at once, on the CPU."""
    return images.cpu().split(_BATCH)


@functools.cache
def load_pair(source: str, kind: str) -> tuple[Any, Any, Any]:
    """Return network, picture processor and tokenizer of a published pair.

    Args:
        source: A folder in the layout of transformers, or a repository in the local cache of the hub.
        kind: Type of the network in transformers.

    Raises:
        MissingPackage: transformers is not installed.
        ArzooError: The weights are not on this machine, or of another kind.
    """
    transformers = require("transformers", "text")
    folder, local = _folder(source, kind), {"local_files_only": True}
    with quiet(transformers):
        try:
            net = transformers.AutoModel.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, **local
            )
            processor = transformers.AutoImageProcessor.from_pretrained(folder, **local)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        except Exception as error:  # several file formats with different errors if damaged
            raise ArzooError(
                f"verifier {kind!r} cannot be read from {folder} ({error}). Copy or download it again."
            ) from error
    if net.config.model_type != kind:
        raise ArzooError(
            f"{folder} holds {net.config.model_type!r}, but verifier {kind!r} needs {kind!r}; give another source"
        )
    return net.eval().requires_grad_(False), processor, tokenizer


def _folder(source: str, kind: str) -> Path:
    """The folder of a source."""
    if (folder := Path(expanded(source))).is_dir():
        return folder
    return cached_repository(
        source,
        f"the weights of verifier {kind!r} ({source}) are not on this machine, and arzoo does not download them. Get "
        f"them with: hf download {source}. Or give their folder as its option source. Without them, image_text looks "
        "at pictures and prompts offline.",
    )
