"""The models of the page: checkpoints on this machine by their names, loaded when somebody chooses them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from arzoo.base.errors import UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.store import entries
from arzoo.generation.generator import Generator

CLASS, TEXT, NOTHING = "class", "text", ""
"""Kinds of subjects: what a picture is drawn of."""


@dataclass(frozen=True)
class Subjects:
    """What a model draws.

    Attributes:
        classes: Names of its classes.
        text: Whether it reads texts.
    """

    classes: tuple[str, ...]
    text: bool

    @staticmethod
    def of(index: Mapping[str, Any]) -> Subjects:
        """Read them from the index of a checkpoint."""
        return Subjects(tuple(index.get("classes", ())), bool(index.get("text")))

    @property
    def kinds(self) -> list[str]:
        """Kinds of subjects, of which there is at least one."""
        return [CLASS] * bool(self.classes) + [TEXT] * self.text or [NOTHING]

    def has(self, kind: str, name: str) -> bool:
        """Return whether the model draws a subject."""
        return kind in self.kinds and (kind != CLASS or name in self.classes)


class Models:
    """Checkpoints that the page offers.

    Args:
        first: The model that is chosen at first: a name of the list, or any checkpoint.
        device: Where models draw.
        kept: How many models stay in memory.

    Raises:
        ArzooError: The first model cannot be opened.
    """

    def __init__(self, first: str, device: torch.device, kept: int = 4) -> None:
        self.first, self.device, self._kept = first, device, kept
        self.subjects = {first: Subjects.of(open_checkpoint(first, "generator").index)}
        for entry in entries():
            if entry.kind == "generator" and entry.source != "hub":  # which might ask the hub for a newer one
                self.subjects.setdefault(entry.name, Subjects.of(entry.index))
        self._loaded = OrderedDict[tuple[str, str], Generator]()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Names of all models."""
        return list(self.subjects)

    def require(self, name: str) -> Subjects:
        """Return what a model draws.

        Raises:
            UnknownName: It is not in the list.
        """
        if name not in self.subjects:
            raise UnknownName("model", name, self.subjects)
        return self.subjects[name]

    def load(self, name: str) -> Generator:
        """Return a generator of one's own, whose networks are shared; a training may have changed them since.

        Raises:
            UnknownName: The model is not in the list.
            ArzooError: As for `Generator.load`.
        """
        self.require(name)
        with self._lock:
            key = name, open_checkpoint(name, "generator").parts["backbone"]["weights"]
            if key not in self._loaded:
                self._loaded[key] = Generator.load(name).to(self.device)
            self._loaded.move_to_end(key)
            while len(self._loaded) > self._kept:
                self._loaded.popitem(last=False)
            model = self._loaded[key]
        return model.with_weights(model.backbone, model.heads)
