"""CachedDecoder: the base of backbones with a key-value cache and the `shifted` readout.

Tokens are fed in the order of the plan, each group attends to lower ranks and to itself, and the output features of
the trunk are kept in a buffer by slot, from which the plan's sources are read. Parallel and stepped passes use the same
hooks.

Shapes: R rows, P prefix tokens, S slots, E extras, H readouts, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.plan import NONE, Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens
from arzoo.models.common.attention import KeyValue


def read_all(out: Tensor, slots: Tensor, count: int, plan: Plan) -> Read:
    """Read all positions of a parallel pass.

    Args:
        out: (R, P + S, H, D) features of the prefix and of the slots.
        slots: (1 or R, S) inputs after the prefix, in feeding order.
        count: P.
        plan: The order.
    """
    buffer = out.new_zeros(len(out), plan.slots + 1, *out.shape[2:])
    index = slots.expand(len(out), -1)[..., None, None].expand(-1, -1, *out.shape[2:])
    if slots.shape[1]:
        buffer = buffer.scatter(1, index, out[:, count:])
    if count:
        buffer[:, -1] = out[:, count - 1]
    everything = torch.arange(plan.layout.size, device=slots.device)[None]
    return read_sources(buffer, plan, everything.expand(len(plan.slot_rank), -1))


def read_sources(buffer: Tensor, plan: Plan, positions: Tensor, places: Tensor | None = None) -> Read:
    """Read positions (1 or B, m) from the features of their sources.

    Args:
        buffer: (R, L + 1, H, D) features, those of the condition last.
        plan: The order.
        positions: The positions.
        places: (1 or B, slots) entry of the buffer that holds each slot; None if slots are entries.
    """
    source = plan.source(positions)
    entries = source
    if places is not None:
        batch = max(len(source), len(places))
        entries = places.expand(batch, -1).gather(1, source.expand(batch, -1, -1).clamp(min=0).flatten(1))
        entries = entries.view(batch, *source.shape[1:])
    rows = len(buffer)
    index = torch.where(source < 0, buffer.shape[1] - 1, entries)
    index = index.expand(rows, -1, -1) if len(index) == 1 else index.repeat(rows // len(index), 1, 1)
    features = buffer.gather(1, index[..., None].expand(-1, -1, -1, buffer.shape[-1]))
    return Read(positions, features, None if plan.all_available else source != NONE)


class CachedDecoder(Backbone, ABC):
    """Base of backbones that feed every token once.

    Subclasses set `width`, `axes` and `padded` (prefixes may hold padding) and define the hooks below.
    """

    padded: bool = False
    windowed = True
    copies = True

    @abstractmethod
    def prefix(self, cond: Cond) -> Tensor:
        """Embed the condition, (R, P, D); without a prefix, P = 0, the plan's first tokens must be given."""

    def prefix_positions(self, count: int) -> Tensor:
        """Return position data of the prefix, (1, P, ...); see `positions`."""
        return torch.zeros(1, count, dtype=torch.long, device=next(self.parameters()).device)

    @abstractmethod
    def embed(self, values: Tensor, slots: Tensor, plan: Plan) -> Tensor:
        """Embed the inputs (R, S, D) of slots (1 or R, S), from the canvas values (R, N, ...)."""

    def positions(self, slots: Tensor) -> Tensor:
        """Return position data of slots, (1 or R, S, ...).

        By default the slots themselves, for networks whose positions are embedded with the tokens, or follow from the
        number of inputs fed before.
        """
        return slots

    @abstractmethod
    def trunk(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: list[KeyValue] | None,
        fill: int,
        cond: Cond,
    ) -> Tensor:
        """Compute features (R, S, H, D); append to the cache after its first `fill` entries.

        Args:
            x: (R, S, D) inputs.
            positions: (1 or R, S, ...) their position data.
            mask: (1 or R, 1, S, fill + S) bool or None.
            cache: The caches of all layers; None computes without.
            fill: Entries of the caches in use.
            cond: Condition of the R rows, for networks that it modulates.
        """

    @abstractmethod
    def new_cache(self, rows: int, capacity: int) -> list[KeyValue]:
        """Allocate static caches, one entry per layer."""

    def prefix_of(self, cond: Cond, plan: Plan) -> Tensor:
        """Embed the condition (R, P, D) at the start of an order, by default as at the start of any."""
        return self.prefix(cond)

    def prefix_keys(self, cond: Cond, count: int) -> Tensor:
        """Return (R, P) bool, the prefix tokens that others may attend to."""
        return torch.ones(cond.batch, count, dtype=torch.bool, device=cond.dropped.device)

    def prefix_mask(self, cond: Cond, count: int) -> Tensor | None:
        """Return the mask (1 or R, P, P) inside the prefix: causal, padding hidden except from itself; None is all."""
        if count <= 1:
            return None
        device = cond.dropped.device
        causal = torch.ones(count, count, dtype=torch.bool, device=device).tril()
        if not self.padded:
            return causal[None]
        eye = torch.eye(count, dtype=torch.bool, device=device)
        return causal & self.prefix_keys(cond, count)[:, None] | eye

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute the features of all positions in parallel; the last group is never an input."""
        slots = plan.fed(-1, len(plan) - 1)
        prefix = self.prefix_of(cond, plan)
        count = prefix.shape[1]
        x = torch.cat([prefix, self._inputs(tokens.values, slots, plan).to(prefix.dtype)], 1)
        start, rest = self.prefix_positions(count), self.positions(plan.places(slots))
        positions = torch.cat([start.expand(len(rest), *start.shape[1:]), rest], 1)
        out = self.trunk(x, positions, self.full_mask(cond, plan, slots, count)[:, None], None, 0, cond)
        return read_all(out, slots, count, plan)

    def full_mask(self, cond: Cond, plan: Plan, slots: Tensor, count: int) -> Tensor:
        """Return the attention mask (1 or R, P + S, P + S) of a parallel pass.

        Args:
            cond: The condition; its padding is hidden.
            plan: The order.
            slots: (1 or R, S) inputs after the prefix, in feeding order.
            count: P, tokens of the prefix.
        """
        inside = self.prefix_mask(cond, count)
        rows = cond.batch if self.padded else max(len(slots), 1 if inside is None else len(inside))
        length = count + slots.shape[1]
        mask = torch.zeros(rows, length, length, dtype=torch.bool, device=slots.device)
        mask[:, :count, :count] = True if inside is None else inside
        mask[:, count:, :count] = self.prefix_keys(cond, count)[:, None] if self.padded else True
        mask[:, count:, count:] = plan.mask(slots, slots)
        return mask

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """Allocate the caches and feed the condition."""
        state = State(plan, cond, branches)
        prefix = self.prefix_of(state.cond, plan)
        count = prefix.shape[1]
        state.kv = self.new_cache(state.rows, count + plan.slots)
        state.fill = count
        out = prefix.new_zeros(state.rows, 0, self.axes, self.width)
        if count:
            mask = self.prefix_mask(state.cond, count)
            mask = None if mask is None else mask[:, None]
            out = self.trunk(prefix, self.prefix_positions(count), mask, state.kv, 0, state.cond)
        buffer = out.new_zeros(state.rows, plan.slots + 1, *out.shape[2:])
        if count:
            buffer[:, -1] = out[:, -1]
        state.tensors["features"] = buffer
        if self.padded:
            state.tensors["prefix_keys"] = self.prefix_keys(state.cond, count)
        return state

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the groups committed since the last call, read the group of this step."""
        return self.window(state, tokens, step, step + 1)[0]

    def window(self, state: State, tokens: Tokens, first: int, last: int) -> list[Read]:
        """Feed the groups that come before the last step and were not fed yet, read the groups first..last-1."""
        plan = state.plan
        slots, ranks = state.pending(last - 1)
        if slots.shape[1]:
            values = tokens.values if state.branches == 1 else torch.cat([tokens.values] * 2)
            x, places = self._inputs(values, slots, plan), self.positions(plan.places(slots))
            mask = self._step_mask(state, slots, ranks)
            out = self.trunk(x, places, mask, state.kv, state.fill, state.cond)
            state.fill += slots.shape[1]
            index = slots.expand(state.rows, -1)[..., None, None].expand_as(out)
            state.tensors["features"].scatter_(1, index, out)
        return [read_sources(state.tensors["features"], plan, group) for group in plan.groups[first:last]]

    def _inputs(self, values: Tensor, slots: Tensor, plan: Plan) -> Tensor:
        """Embed the inputs (R, S, D) of slots; a copy is embedded as if its token were at the place of the copy."""
        places = plan.places(slots)
        x = self.embed(values, places, plan)
        if plan.copies is None:
            return x
        of, place = plan.copies.unbind(1)
        moved = values.index_copy(1, place, values[:, of])
        return torch.where((slots < plan.layout.size)[..., None], x, self.embed(moved, places, plan))

    def _step_mask(self, state: State, slots: Tensor, ranks: int) -> Tensor | None:
        # A single group attends to the whole cache, so it needs no mask unless some of it is to be hidden.
        alone = ranks == 1 and state.plan.copies is None and not state.plan.causal
        if alone and not self.padded:
            return None
        fed = state.fill + slots.shape[1]
        mask = torch.ones(state.rows, slots.shape[1], fed, dtype=torch.bool, device=slots.device)
        seen = state.seen()
        if not alone:
            mask[:, :, fed - seen.shape[1] :] = state.plan.mask(slots, seen)
        if self.padded:
            keys = state.tensors["prefix_keys"]
            mask[:, :, : keys.shape[1]] = keys[:, None]
        return mask[:, None]
