"""OCR: whether the words that a prompt quotes can be read in the picture."""

from __future__ import annotations

import difflib
import functools
import re
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError, require
from arzoo.base.registry import register
from arzoo.samplers.verifiers.base import PictureVerifier, Subject

_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|„([^“]+)“|«([^»]+)»|(?<!\w)'([^']+)'(?!\w)")


@register("verifier", "ocr")
class Ocr(PictureVerifier):
    """Share of the prompt's quoted words that can be read in the picture, by the networks of RapidOCR.

    Args:
        subject: A prompt that quotes what is to be read, such as: a sign with the word "open".

    Raises:
        MissingPackage: rapidocr_onnxruntime is not installed.
        ArzooError: The prompt quotes nothing.
    """

    name, needs, range, extra = "ocr", frozenset({"prompt"}), (0.0, 1.0), "ocr"
    networks = frozenset({"rapidocr"})

    def __init__(self, subject: Subject) -> None:
        self.words, self.reader = quoted(subject.prompt or ""), _reader()

    def score_images(self, images: Tensor) -> Tensor:
        """Return the similarities (B,) of the text in pictures (B, H, W, 3) uint8 and the quoted words."""
        return torch.tensor([similarity(self.read(image), self.words) for image in images.cpu()])

    def read(self, image: Tensor) -> str:
        """Return the text in a picture (H, W, 3) uint8; empty if there is none."""
        lines, _ = self.reader(image.flip(2).contiguous().numpy())  # it wants blue, green and red
        return " ".join(text for _, text, _ in lines or ())  # None, not an empty list, where nothing is read


_reader: Any = functools.cache(lambda: require("rapidocr_onnxruntime", "ocr").RapidOCR())


def quoted(prompt: str) -> str:
    """Return what a prompt quotes, several quotations joined by spaces.

    Raises:
        ArzooError: It quotes nothing.
    """
    words = ["".join(groups) for groups in _QUOTED.findall(prompt)]
    if not words:
        raise ArzooError(
            f"verifier 'ocr' reads the words that a prompt puts in quotation marks, but {prompt!r} quotes none. Write, "
            'for example: a sign with the word "open".'
        )
    return " ".join(words)


def similarity(text: str, words: str) -> float:
    """Return 2 x matching characters / all characters of two texts, without case and spaces."""
    a, b = ("".join(each.casefold().split()) for each in (text, words))
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()
