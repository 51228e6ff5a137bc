"""Value models as checkpoints, and the use of one beside its generator: as a verifier, and to stop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, save_parts, weights_sha256
from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.models.value.network import ValueNetwork
from arzoo.samplers.loop import Drawn, Run
from arzoo.samplers.schedules import control_to_data

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


_FACTS = ("generator", "plan", "controls", "judge")
"""Fields of a value model that its checkpoint records."""


class OtherKnobs(UserWarning):
    """A value model was trained on rollouts with other knobs than those it is used with."""


@dataclass(frozen=True)
class Value:
    """A trained value model.

    Attributes:
        network: The network.
        name: Where it comes from, for messages.
        generator: {"name", "weights"} of the generator whose rollouts it was trained on.
        plan: {"name", "options"} of that generator's plan.
        controls: Knobs of the rollouts, as plain data.
        judge: What it foresees: {"verifier", "options", "networks"} of a score, or {"quality"} of a length.
    """

    network: ValueNetwork
    name: str
    generator: Mapping[str, Any]
    plan: Mapping[str, Any]
    controls: Mapping[str, Any]
    judge: Mapping[str, Any]

    @staticmethod
    def load(name: str | Path) -> Value:
        """Read a checkpoint.

        Raises:
            ArzooError: It does not exist, is damaged, or is no value model.
        """
        checkpoint = open_checkpoint(name, "value")
        network, index = checkpoint.load("value"), checkpoint.index
        assert isinstance(network, ValueNetwork)
        facts = {key: index.get(key, {}) for key in _FACTS}
        return Value(network.requires_grad_(False), str(name), **facts)

    def save(
        self,
        folder: str | Path,
        metrics: dict[str, Any],
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a checkpoint folder. See `arzoo.checkpoints.folder.save_parts`."""
        facts: dict[str, Any] = {key: dict(getattr(self, key)) for key in _FACTS}
        save_parts(
            folder,
            "value",
            {"value": self.network},
            overwrite=True,
            metrics=metrics,
            record=record,
            add=add,
            **facts,
        )

    def require(self, model: Generator, control: Control | None = None) -> None:
        """Check that it was trained on rollouts of a generator.

        Raises:
            ArzooError: It was trained on those of another one.

        Warns:
            OtherKnobs: The knobs are not those of its rollouts.
        """
        weights = {part: weights_sha256(module) for part, module in model.parts.items()}
        plan = {"name": model.plan_name, "options": model.plan_options}
        if weights != self.generator.get("weights") or plan != self.plan:
            raise ArzooError(
                f"value model {self.name!r} foresees pictures of {self.generator.get('name')!r} with plan "
                f"{self.plan.get('name')!r}, not those of this generator. Use it with that one, or train another: "
                "arzoo train RECIPE --value.generator NAME"
            )
        knobs = control_to_data(model.control if control is None else control)
        other = [key for key, knob in knobs.items() if knob != self.controls.get(key)]
        if other:
            warnings.warn(
                f"value model {self.name!r} was trained on pictures drawn with other settings of {', '.join(other)}, "
                "so its values are off",
                OtherKnobs,
                stacklevel=3,
            )

    def __call__(self, tokens: Tokens, last: Drawn | None) -> Tensor:
        """Return the values (n,) of canvases whose last group was drawn as `last` says.

        Raises:
            ArzooError: The backbone gives no features, or nothing was drawn yet.
        """
        if last is None or (features := last.features) is None:
            raise ArzooError(
                f"value model {self.name!r} reads the features that the last tokens were drawn from, and there are "
                "none: nothing is drawn yet, or the backbone denoises tokens itself"
            )
        return self.network.to(features.device).value(features, tokens.at(last.group), last.k)

    def stop(self, left: float = 0.5) -> Callable[[Run], Tensor]:
        """Return a rule that ends a sample when it needs fewer further tokens than `left`.

        Raises:
            ArzooError: It foresees scores, no lengths.
        """
        if self.network.config.target != "length":
            raise ArzooError(
                f"value model {self.name!r} foresees scores, no lengths, so it cannot say when to stop; use one that "
                "was trained with model: length_value"
            )

        def stop(run: Run) -> Tensor:
            if run.last is None:
                return torch.zeros(len(run.tokens.values), dtype=torch.bool, device=run.tokens.values.device)
            return self(run.tokens, run.last) < left

        return stop
