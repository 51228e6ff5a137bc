"""The generator of a verb that draws: loaded, on its device, in its precision and with its knobs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from arzoo.base import runtime
from arzoo.base.console import note
from arzoo.base.errors import UsageError
from arzoo.cli.knobs import control, idle, misuse, plan_of, size_of
from arzoo.cli.sampling import Sampling
from arzoo.core.control import Control
from arzoo.generation.effort import with_steps
from arzoo.generation.gaps import OtherPlan, plan_remark
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptRemark
from arzoo.generation.request import NoEffect


@dataclass(frozen=True)
class Loaded:
    """A generator as a command draws with it.

    Attributes:
        model: The generator as it is stored, on the device.
        drawing: The same in the precision of the command.
        knobs: The checkpoint's control with the typed options changed.
        arithmetic: Type to compute in under autocast; None where `drawing` itself has the precision.
    """

    model: Generator
    drawing: Generator
    knobs: Control
    arithmetic: torch.dtype | None

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Context to draw in: with the precision, without warnings that were printed before."""
        low: AbstractContextManager[None] = contextlib.nullcontext()
        if self.arithmetic is not None:
            low = torch.autocast(self.model.device.type, self.arithmetic)
        with low, warnings.catch_warnings():
            for category in (PromptRemark, NoEffect, OtherPlan):
                warnings.simplefilter("ignore", category)
            yield


def load(command: Sampling) -> Loaded:
    """Load the model of a command, and print remarks on typed options that have no effect.

    Raises:
        UsageError: The model or the device does not take an option.
        ArzooError: As `Generator.load`, or this machine has no such device.
    """
    runtime.set_threads(command.threads)
    device = place(command)
    model = Generator.load(command.model, command.tokenizer, command.text_encoder).to(device)
    if command.size is not None:
        with misuse():
            model = model.with_size(*size_of(command.size))
    if command.order is not None:
        with misuse():
            name, options = plan_of(command.order)
            model = model.with_plan(name, **options)
        if remark := plan_remark(model):
            note(remark)
    if command.steps is not None:
        with misuse():
            model = with_steps(model, command.steps)
    knobs = control(model.control, command.knobs(), model.spec.discrete)
    for remark in idle(model, command.knobs(), knobs):
        note(remark)
    if device.type == "cpu" and command.precision != "fp32":
        packed = model.packed("fp16" if command.precision == "half" else command.precision)
        return Loaded(model, packed, knobs, None)
    low = runtime.choose_dtype(command.precision) if command.precision == "bf16" else None
    return Loaded(model, model, knobs, low)


def place(command: Sampling) -> torch.device:
    """Return the device to compute on.

    Raises:
        UsageError: The device does not support the precision.
        ArzooError: This machine has no such device.
    """
    packs = command.precision in ("half", "int8")
    device = runtime.choose_device("cpu" if packs and command.device == "auto" else command.device)
    if packs and device.type != "cpu":
        raise UsageError(
            f"--precision {command.precision} packs weights for CPUs; with --device {command.device} use fp32 or bf16"
        )
    return device
