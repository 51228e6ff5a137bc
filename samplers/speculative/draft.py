"""A smaller model drafts, the model itself verifies: the law of the plain loop with fewer calls of the larger network.

"Fast Inference from Transformers via Speculative Decoding" (2023); "Accelerating Large Language Model Decoding with
Speculative Sampling" (2023). The drafting model has a run of its own on the same plan, and forgets what was rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from arzoo.base.config import checked, whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.contracts import Backbone, Head
from arzoo.core.plan import Plan
from arzoo.samplers.loop import Model, Run, propose, start
from arzoo.samplers.speculative.base import (
    Load,
    Ready,
    Speculation,
    cannot_draw_ahead,
    count_of,
    read_ahead,
    streams,
    window_end,
)
from arzoo.samplers.speculative.verification import Drafts, Window, law_of

Verification = Literal["chain", "block"]


@dataclass(frozen=True)
class Drafted(Speculation):
    """Base of methods in which another generator of the same tokens drafts.

    Attributes:
        drafter: The other generator, with the tokenizer, the plan and the conditions of the one that draws.
        guidance: The drafting model is guided too. Without, its calls take half the rows, but fewer drafts are kept.
    """

    drafter: Model = field()  # without the base's default
    guidance: bool = field(default=True, kw_only=True)

    lockstep, enumerates = True, True

    def require(self, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
        """Check that a model can be drawn in this way, and that the other one drafts its tokens.

        Raises:
            ArzooError: It cannot, or the other one does not.
        """
        super().require(backbone, plan, heads)
        if reason := cannot_draw_ahead(self.drafter.backbone, plan, self.drafter.heads, enumerates=True):
            raise ArzooError(f"the model that drafts cannot do so: {reason}")
        for own, other in zip(heads, self.drafter.heads, strict=False):
            if own.config.vocab != other.config.vocab:
                raise ArzooError(
                    f"the model that drafts draws {other.config.vocab} codes, the other one {own.config.vocab}; both "
                    "must have been trained on the codes of one tokenizer"
                )

    def start(self, run: Run) -> Run:
        """Start a run of the drafting model with the plan, conditions and knobs of a run."""
        cond = run.state.cond.select(torch.arange(run.state.batch))
        controls = [control if self.guidance else replace(control, guidance=1) for control in run.controls]
        return start(self.drafter, run.plan, cond, controls, run.tokens.copy(), run.draws)


def catch_up(own: Run, run: Run) -> None:
    """Let the run of a drafting model stand where the run that it drafts for does, with what is committed there."""
    own.tokens, own.k = run.tokens.copy(), run.k
    own.state = own.state.rewind(run.k - 1)  # the last token that was committed may not be a draft


@dataclass(frozen=True)
class Draft(Drafted):
    """Let another generator draft some steps, and verify them with one call.

    Attributes:
        length: Steps that it drafts, at least 1.
        verification: "block" never keeps fewer drafts than "chain", see `arzoo.samplers.speculative.chain`.

    Raises:
        ArzooError: The length is not a number of steps, or there is no such verification.
    """

    length: int = 4
    verification: Verification = "block"

    def __post_init__(self) -> None:
        whole_number(self.length, "number of steps to draft", least=1)
        checked(self.verification, Verification, "verification")

    def calls(self, model: Model, run: Run) -> Iterator[Sequence[Ready]]:
        """As `Speculation.calls`."""
        own = self.start(run)
        while run.k < len(run.plan):
            last = window_end(run, self.length + 1)
            noise = streams(run, last)
            catch_up(own, run)
            drafts = Drafts(own.tokens)
            for k in range(run.k, last - 1):
                if run.todo[k]:
                    drawn_from = law_of(propose(self.drafter, own))
                    drafts.put(k, run.plan.groups[k], noise[k].categorical(drawn_from), drawn_from)
                own.k += 1
            run.draft_passes, own.passes = run.draft_passes + own.passes, 0
            window = Window(run, last, read_ahead(model, run, own.tokens, last), drafts, noise)
            yield window.chain() if self.verification == "chain" else window.block()


def drafter_of(settings: str, others: str, form: str) -> tuple[str, str]:
    """Name of the drafting model in the settings of a method, and the other settings.

    Args:
        settings: What was typed for both.
        others: What the other settings are, for the message.
        form: How the whole is typed, for the message.

    Raises:
        ArzooError: There is no name.
    """
    name, _, rest = settings.rpartition(":")
    if not name:
        raise ArzooError(f"{settings!r} must be a model and {others}, as in {form}")
    return name, rest


@register("speculation", "draft")
def read_draft(settings: str, load: Load) -> Draft:
    """draft:MODEL:STEPS, the law of the plain loop: a smaller model of the same tokens drafts so many steps."""
    form = "draft:MODEL:4"
    name, steps = drafter_of(settings, "the number of steps it drafts", form)
    length = count_of(steps, form)
    return Draft(load(name), length)
