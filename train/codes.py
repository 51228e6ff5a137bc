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
        values: (variants, n, N) codes or (variants, n, N, C) latents; variant 0 is the clean picture.
        labels: (n,) class of each picture.
        spec: What the tokens are.
        key: What made them: tokenizer, data and augmentation hashes.
    """

    values: Tensor
    labels: Tensor
    spec: TokenSpec
    key: dict[str, str | int]

    def save(self, folder: Path) -> None:
        """Write codes.safetensors and index.json; an interrupted write leaves nothing behind."""
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        values = self.values
        if self.spec.discrete and self.spec.vocab <= 1 << 15:
            values = values.to(torch.int16)
        save_file(
            {"values": values.contiguous(), "labels": self.labels.contiguous()}, partial / "codes.safetensors"
        )
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
            return Codes(values, tensors["labels"], spec, index["key"])
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
    n, out = len(data), []
    for variant in range(variants + 1):
        rows = []
        for first in range(0, n, batch):
            chunk = data.pixels(slice(first, first + batch))
            if variant:
                mirrorable = data.mirrorable[first : first + batch]
                x = augment(chunk, mirrorable, generator(variant, first), policy)
            else:
                x = to_model(composite(chunk))
            rows.append(tokenizer.encode(x))
            if progress:
                progress(variant * n + first + len(x), (variants + 1) * n)
        out.append(torch.cat(rows))
    key = {"tokenizer": tokenizer_hash, "data": data.sha256, "augment": policy.hash(), "variants": variants}
    return Codes(torch.stack(out), data.labels.clone(), tokenizer.spec, key)
