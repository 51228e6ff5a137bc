"""A value model as a verifier: the expected final score of unfinished candidates, without decoding them."""

from __future__ import annotations

from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.control import Control
from arzoo.generation.generator import Generator
from arzoo.generation.values import Value
from arzoo.samplers.loop import Model
from arzoo.samplers.verifiers.base import Candidates, Subject, Verifier


@register("verifier", "value")
class TokenValue(Verifier):
    """Expected final score, by a value model of the generator, from what the last tokens were drawn from.

    A search that it steers exploits its mistakes: choose among the results by the verifier it foresees, see
    `arzoo.samplers.search.rescored`.

    Args:
        subject: Not looked at: the features know it.
        checkpoint: The value model, trained by `arzoo train value_...`.

    Raises:
        ArzooError: There is no such checkpoint, or it foresees lengths.
    """

    name, pictures, needs = "value", False, frozenset({"features"})

    def __init__(self, subject: Subject | None = None, checkpoint: str = "") -> None:
        if not checkpoint:
            raise ArzooError(
                "verifier 'value' needs the checkpoint of a value model of the generator: train one, for example with "
                "`arzoo train value_raster_emoji64`, and give its folder as option checkpoint"
            )
        self.value = Value.load(checkpoint)
        if self.value.network.config.target != "score":
            raise ArzooError(
                f"value model {checkpoint!r} foresees lengths, which are no scores; use it to stop, or another one"
            )
        judge = self.value.judge
        self.networks = frozenset(judge.get("networks", ()))  # it has learned their taste

    def require(self, model: Model, control: Control | None = None) -> None:
        """Check that it belongs to a generator, see `Value.require`."""
        if not isinstance(model, Generator):
            raise ArzooError(
                f"value model {self.value.name!r} foresees pictures of {self.value.generator.get('name')!r}, and this "
                "search draws without it; name another verifier, such as class_probe"
            )
        self.value.require(model, control)

    def score(self, candidates: Candidates) -> Tensor:
        """Return the expected final scores (n,)."""
        return self.value(candidates.tokens, candidates.last)
