"""Code cache: a data set's tokens, made once by a tokenizer and read by generator training.

Every picture is encoded clean and in several augmented variants, as published recipes do with crops and
flips. The cache
is keyed by the tokenizer's weights, the data and the augmentation, and a generator refuses the codes of
another tokenizer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from arzoo.data.base import ImageSet
from arzoo.data.transforms import Augment, augment, composite, to_model
from arzoo.errors import ArzooError
from arzoo.tokenizers.base import Tokenizer
from arzoo.tokens import TokenSpec
from arzoo.train.objective import generator


@dataclass(frozen=True)
class Codes:
    """Tokens of one split.

    Attributes:
        values: (variants, n, N) codes or (variants, n, N, C) vectors; variant 0 is the clean picture.
        labels: (n,) class of each picture.
        spec: What the tokens are.
        key: What made them: hashes of the tokenizer's weights and settings, of data and augmentation.
        spread: Standard deviation of the values, of their shape: training sees a fresh sample around them each time,
            as MAR does with its cached moments. None where values are exact.
    """

    values: Tensor
    labels: Tensor
    spec: TokenSpec
    key: dict[str, str | int]
    spread: Tensor | None = None

    def draw(self, variants: Tensor, rows: Tensor, random: torch.Generator) -> Tensor:
        """Tokens to train on, sampled where they are random.

        Args:
            variants: (B,) which variant.
            rows: (B,) of which picture.
            random: Source of randomness.

        Returns:
            (B, N) or (B, N, C).
        """
        values = self.values[variants, rows]
        if self.spread is None:
            return values
        return values + self.spread[variants, rows] * torch.randn(values.shape, generator=random)

    def save(self, folder: Path) -> None:
        """Write codes.safetensors and index.json; an interrupted write leaves nothing behind."""
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        values = self.values
        if self.spec.discrete and self.spec.vocab <= 1 << 15:
            values = values.to(torch.int16)
        tensors = {"values": values, "labels": self.labels}
        if self.spread is not None:
            tensors["spread"] = self.spread
        save_file({name: t.contiguous() for name, t in tensors.items()}, partial / "codes.safetensors")
        index = {"format": 1, "spec": self.spec.to_dict(), "key": self.key, "shape": list(values.shape)}
        (partial / "index.json").write_text(json.dumps(index, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)

    @staticmethod
    def load(folder: Path) -> Codes:
        """Read a cache.

        Raises:
            ArzooError: The folder is no cache, or a damaged one.
        """
        try:
            index = json.loads((folder / "index.json").read_text())
            tensors = load_file(folder / "codes.safetensors")
            spec = TokenSpec.from_dict(index["spec"])
            values = tensors["values"].long() if spec.discrete else tensors["values"]
            return Codes(values, tensors["labels"], spec, index["key"], tensors.get("spread"))
        except Exception as error:
            raise ArzooError(
                f"{folder} is not a whole code cache ({error}). Remove it and run: arzoo tokenize"
            ) from error


@torch.inference_mode()
def encode_split(
    tokenizer: Tokenizer,
    tokenizer_hash: str,
    data: ImageSet,
    variants: int,
    policy: Augment,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Codes:
    """Encode a split.

    Args:
        tokenizer: In evaluation mode.
        tokenizer_hash: sha256 of its weights.
        data: The split.
        variants: Augmented copies beside the clean one.
        policy: How they are augmented; variant v of a picture depends on v and the batch number alone.
        batch: Pictures at once.
        progress: Called with (pictures done, pictures to do).
    """
    n, means, spreads = len(data), [], []
    for variant in range(variants + 1):
        for first in range(0, n, batch):
            chunk = data.pixels(slice(first, first + batch))
            if variant:
                mirrorable = data.mirrorable[first : first + batch]
                x = augment(chunk, mirrorable, generator(variant, first), policy)
            else:
                x = to_model(composite(chunk))
            mean, spread = tokenizer.distribution(x)
            means.append(mean)
            if spread is not None:
                spreads.append(spread)
            if progress:
                progress(variant * n + first + len(x), (variants + 1) * n)
    key = {
        "tokenizer": tokenizer_hash,
        "settings": tokenizer.config.hash(),  # the scale of latents is no weight
        "data": data.sha256,
        "augment": policy.hash(),
        "variants": variants,
    }
    values, spread = (
        torch.cat(found).unflatten(0, (variants + 1, n)) if found else None for found in (means, spreads)
    )
    return Codes(values, data.labels.clone(), tokenizer.spec, key, spread)
