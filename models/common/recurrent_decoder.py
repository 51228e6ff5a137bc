"""RecurrentDecoder: the base of backbones that keep a summary of what they have read, of constant size.

As in `CachedDecoder`, tokens are fed in the order of the plan and predicted from the features of their sources. There
is no mask: a token sees those that were fed before it, those of its own group too. The state holds the memory of each
layer, and the features of the last few slots, as many as the plan reaches back for a source: one in raster order,
however long the canvas.

A summary cannot be cut back, so `rewind` returns to a snapshot, and what came between is fed again with the next call.

Shapes: R rows, P prefix tokens, S slots, H readouts, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.plan import Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens
from arzoo.models.common.decoder_only import read_all, read_sources

Memory = tuple[Tensor, ...]
"""What a layer keeps, of R rows."""


@dataclass(frozen=True)
class Snapshot:
    """What a state held before some slots were fed. Feeding makes new tensors, so nothing is copied."""

    fed: int
    fill: int
    tensors: dict[str, Tensor]
    kv: list[Memory]

    def select(self, rows: Tensor) -> Snapshot:
        """Copy some rows."""
        tensors = {name: value[rows] for name, value in self.tensors.items()}
        return Snapshot(self.fed, self.fill, tensors, [tuple(t[rows] for t in layer) for layer in self.kv])


class RecurrentState(State):
    """State of a run of a recurrent network.

    Attributes:
        reach: Features that are kept, see `reach`.
        depth: Snapshots that are kept besides the first, which is the state before any token: as many steps as it was
            ever rewound.
        snapshots: The first, and the latest ones.
    """

    def __init__(self, plan: Plan, cond: Cond, branches: int) -> None:
        super().__init__(plan, cond, branches)
        self.places, self.reach = feeding_places(plan), reach(plan)
        self.depth = 0
        self.snapshots: list[Snapshot] = []

    @property
    def fed(self) -> int:
        """The step before which everything was fed."""
        return self._fed

    def remember(self, last: int) -> None:
        """Take a snapshot before the slots up to step `last` are fed, if it may be wanted.

        That is before any token, before several steps at once, and where the state was rewound before.
        """
        fed = self._fed if self.fill else -1
        if self.complete(last) or any(snapshot.fed == fed for snapshot in self.snapshots):
            return
        if not self.snapshots or self.depth or self.plan.ranks_fed(fed, last) > 1:
            earlier = self.snapshots[1:]
            kept = self.snapshots[:1] + earlier[max(len(earlier) + 1 - max(self.depth, 1), 0) :]
            self.snapshots = [*kept, Snapshot(fed, self.fill, self.tensors, self.kv)]

    def rewind(self, step: int) -> RecurrentState:
        """This state at the latest snapshot without slots of ranks `step` and later, if any were fed."""
        new = copy(self)
        new._fed = min(step, self._fed)
        if self.plan.ranks_fed(step, self._fed):
            new.depth = max(self.depth, self._fed - step)
            new.snapshots = [snapshot for snapshot in self.snapshots if snapshot.fed <= step]
            back = new.snapshots[-1]
            new._fed, new.fill, new.tensors, new.kv = back.fed, back.fill, back.tensors, back.kv
        return new

    @property
    def nbytes(self) -> int:
        """Memory of state and snapshots in bytes."""
        held: list[State | Snapshot] = [self, *self.snapshots]
        tensors = [
            t for one in held for t in (*one.tensors.values(), *(t for layer in one.kv for t in layer))
        ]
        return sum({id(t): t.nbytes for t in tensors}.values())

    def select(self, index: Tensor) -> RecurrentState:
        """Copy some samples; the copy is independent of this state."""
        new = super().select(index)
        assert isinstance(new, RecurrentState)
        rows = torch.cat([index + i * self.batch for i in range(self.branches)])
        new.snapshots = [snapshot.select(rows) for snapshot in self.snapshots]
        new.places = self.places if len(self.places) == 1 else self.places[index]
        return new


class RecurrentDecoder(Backbone, ABC):
    """Base of recurrent backbones that feed every token once.

    Subclasses set `width`, `axes` and `padded` (prefixes may hold padding, before their tokens) and define the hooks.
    """

    padded: bool = False
    recurrent = windowed = hides = True

    @abstractmethod
    def prefix(self, cond: Cond) -> Tensor:
        """Embed the condition, (R, P, D); without a prefix, P = 0, the plan's first tokens must be given."""

    @abstractmethod
    def embed(
        self, values: Tensor, slots: Tensor, plan: Plan, stepping: bool, known: Tensor | None = None
    ) -> Tensor:
        """Embed the inputs (R, S, D) of slots (1 or R, S), from the canvas values (R, N, ...).

        Args:
            values: Values of the canvas.
            slots: Slots to embed.
            plan: The order.
            stepping: It is drawing step by step, not a parallel pass.
            known: (R, N) bool, False at tokens of which only the position is embedded; None means all are known.
        """

    @abstractmethod
    def trunk(
        self,
        x: Tensor,
        memory: list[Memory] | None,
        cond: Cond,
        kept: Tensor | None,
        fixed: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, list[Memory]]:
        """Compute features (R, S, H, D), and the memory after the last token.

        Args:
            x: (R, S, D) inputs.
            memory: That of every layer; None is nothing.
            cond: Condition of the R rows, for networks that it modulates.
            kept: (R, S) bool, False at padding; None keeps all.
            fixed: What `fixed` returned, and other tensors; None computes it.
        """

    def fixed(self, cond: Cond) -> dict[str, Tensor]:
        """Compute once per run what every step needs of the condition, as named tensors (R, ...)."""
        return {}

    def prefix_keys(self, cond: Cond) -> Tensor:
        """Return (R, P) bool, the prefix tokens that are not padding, for networks that are `padded`."""
        raise NotImplementedError

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute the features of all positions in parallel; the last group is never an input."""
        self._require(plan)
        slots, prefix = plan.fed(-1, len(plan) - 1), self.prefix(cond)
        inputs = self.embed(tokens.values, slots, plan, stepping=False, known=tokens.known)
        x, kept = torch.cat([prefix, inputs.to(prefix.dtype)], 1), None
        if self.padded:
            kept = torch.cat(
                [self.prefix_keys(cond), x.new_ones(len(x), slots.shape[1], dtype=torch.bool)], 1
            )
        out, _ = self.trunk(x, None, cond, kept)
        return read_all(out, slots, prefix.shape[1], plan)

    def start(self, cond: Cond, plan: Plan, branches: int) -> RecurrentState:
        """Feed the condition.

        Raises:
            ArzooError: The plan has another number of positions than the network.
        """
        self._require(plan)
        state = RecurrentState(plan, cond, branches)
        prefix = self.prefix(state.cond)
        kept = self.prefix_keys(state.cond) if self.padded else None
        condition = prefix.new_zeros(state.rows, 1, self.axes, self.width)
        fixed = self.fixed(state.cond)
        if prefix.shape[1]:
            out, state.kv = self.trunk(prefix, None, state.cond, kept, fixed)
            condition = out[:, -1:].clone()
        state.tensors = {"condition": condition, "features": condition[:, :0], **fixed}
        return state

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the groups committed since the last call, read the group of this step."""
        return self.window(state, tokens, step, step + 1)[0]

    def window(self, state: State, tokens: Tokens, first: int, last: int) -> list[Read]:
        """Feed the groups that come before the last step and were not fed yet, read the groups first..last-1."""
        assert isinstance(state, RecurrentState)
        plan, features = state.plan, state.tensors["features"]
        assert not plan.ranks_fed(first, state.fed), "a step that was passed is read after `rewind`"
        state.remember(last - 1)
        slots, _ = state.pending(last - 1)
        if slots.shape[1]:
            values = tokens.values if state.branches == 1 else torch.cat([tokens.values] * 2)
            x = self.embed(values, slots, plan, stepping=True)
            out, state.kv = self.trunk(
                x.to(features.dtype), state.kv or None, state.cond, None, state.tensors
            )
            state.fill += slots.shape[1]
            features = torch.cat([features, out], 1)
            kept = features[:, max(features.shape[1] - state.reach, 0) :]
            state.tensors = {**state.tensors, "features": kept.clone()}
        buffer = torch.cat([features, state.tensors["condition"]], 1)
        places = state.places - (state.fill - features.shape[1])
        return [read_sources(buffer, plan, group, places) for group in plan.groups[first:last]]

    def _require(self, plan: Plan) -> None:
        layout = self.config.layout
        if layout is not None and layout.size != plan.layout.size:
            raise ArzooError(
                f"plan {plan.name!r} orders {plan.layout.size} positions, backbone {called(self)} was made for "
                f"{layout.size} ({layout}). Make the plan for that layout, or the network for that of the plan."
            )


def feeding_places(plan: Plan) -> Tensor:
    """Return the place of each slot in the order of feeding, (1 or B, slots)."""
    order = plan.fed(-1, len(plan))
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def reach(plan: Plan) -> int:
    """Return how many slots, counted back from the last one fed, can be the source of a position that is read next."""
    rank = plan.slot_rank[:, : plan.layout.size]
    counts = torch.tensor([plan.fed(-1, k).shape[1] for k in range(len(plan))], device=rank.device)
    assert plan.sources is not None
    source = plan.sources if plan.sources.dim() == 3 else plan.sources[None]
    batch = max(len(source), len(rank))
    places = (
        feeding_places(plan).expand(batch, -1).gather(1, source.expand(batch, -1, -1).clamp(min=0).flatten(1))
    )
    back = counts[rank.clamp(min=0)][..., None] - places.view(batch, *source.shape[1:])
    return int(back.where((source >= 0) & (rank >= 0)[..., None], 0).max())
