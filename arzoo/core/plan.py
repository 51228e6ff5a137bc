"""Plan: a generation order as data.

The *rank* of a position is the step that commits it. Groups, the number of network calls and the attention rule
(`rank[query] >= rank[key]`) follow from ranks. The *readout* says where the features that predict a position come from:

* `shifted`: from tokens committed earlier; `sources` names them, one per readout head (next-token, next-neighbor,
  next-block, parallel groups);
* `inplace`: from a query (mask or noise) at the position itself (masked and next-X models);
* `draft`: from an input computed from the canvas of lower ranks, which stays in the cache (next-scale models).

Slots number the inputs of a backbone: 0..N-1 are the positions, N..N+E-1 are extra inputs: learned ones, or copies of
tokens at other positions.

Shapes: B samples, N positions, E extra slots, S slots fed at once, m positions of a group, H readouts, K steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.control import Progress
from arzoo.core.layout import Layout

COND = -1
"""Entry of `Plan.sources`: the last token of the condition predicts this position."""
NONE = -2
"""Entry of `Plan.sources`: this readout head does not predict this position."""

Readout = Literal["shifted", "inplace", "draft"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A generation order.

    Attributes:
        layout: Positions to fill.
        rank: (N,) or (B, N) int64, the step that commits a position; -1 means given before step 0. Group sizes are
            equal in all samples, so every group is a dense index tensor.
        readout: Origin of the features of a position, see above.
        sources: (N, H) or (B, N, H) int64, `shifted` only: slot whose features predict a position, per readout head;
            `COND` and `NONE` are allowed.
        extra_rank: (E,) int64, rank of the tokens that an extra input is fed together with; -1 is before step 0.
        copies: (E, 2) int64, for networks trained in raster order and drawn in another: each extra input is a copy of
            the token at the first position, fed at the second until the token of that one is there. No token then
            sees one that follows it in raster order, as in training. None if extra inputs are learned.
        stage: (K,) stage of each step; heads and controls have one entry per stage.
        name: Name of the order, for messages.
        confident: The tokens that the model is most confident of are committed. Ranks then only say how many in each
            step: every step draws all positions, and the sampling loop decides which of them are its group.
        causal: `shifted` only: a slot sees those of its own rank that are fed before it, instead of all of them, so a
            network needs `mask` even to feed one rank.

    Raises:
        ArzooError: Group sizes differ between samples, ranks have gaps, or a source is not committed before its target.
    """

    layout: Layout
    rank: Tensor
    readout: Readout
    sources: Tensor | None = None
    extra_rank: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    stage: tuple[int, ...] = ()
    name: str = "unnamed"
    confident: bool = False
    copies: Tensor | None = None
    causal: bool = False

    def __post_init__(self) -> None:
        rank = self.rank if self.rank.dim() == 2 else self.rank[None]
        if rank.shape[1] != self.layout.size:
            raise ArzooError(
                f"plan {self.name!r} ranks {rank.shape[1]} positions, its layout has {self.layout.size}"
            )
        steps = int(rank.max()) + 1
        counts = torch.stack([torch.bincount(row + 1, minlength=steps + 1) for row in rank])
        if not (counts == counts[:1]).all():
            raise ArzooError(f"plan {self.name!r}: group sizes differ between samples")
        sizes = counts[0].tolist()
        if steps < 1 or 0 in sizes[1:]:
            raise ArzooError(
                f"plan {self.name!r}: every step must commit a token, group sizes are {sizes[1:]}"
            )
        if self.stage and len(self.stage) != steps:
            raise ArzooError(f"plan {self.name!r} has {steps} steps, but stages of {len(self.stage)} steps")
        extra = self.extra_rank.expand(len(rank), -1)
        slot_rank = torch.cat([rank, extra], 1)
        # Stable sorts: ascending position inside a group, ascending slot inside a feed.
        order = torch.argsort(rank, dim=1, stable=True)[:, sizes[0] :]
        feeds = torch.bincount(slot_rank[0] + 1, minlength=steps + 1).cumsum(0).tolist()
        set_ = object.__setattr__
        set_(self, "groups", list(order.split(sizes[1:], 1)))
        set_(self, "slot_rank", slot_rank)
        set_(self, "stage", self.stage or (0,) * steps)
        set_(self, "_order", torch.argsort(slot_rank, dim=1, stable=True))
        set_(self, "_feeds", [0, *feeds])
        set_(self, "_progress", self._count(sizes))
        set_(self, "all_available", self.sources is not None and not bool((self.sources == NONE).any()))
        self._check_sources(rank, slot_rank)
        self._check_copies(slot_rank)

    # Filled in by __post_init__.
    groups: list[Tensor] = field(init=False, repr=False)
    slot_rank: Tensor = field(init=False, repr=False)
    all_available: bool = field(init=False, repr=False)
    _order: Tensor = field(init=False, repr=False)
    _feeds: list[int] = field(init=False, repr=False)
    _progress: list[Progress] = field(init=False, repr=False)

    def _check_sources(self, rank: Tensor, slot_rank: Tensor) -> None:
        if self.readout != "shifted":
            if self.sources is not None or self.causal:
                refused = "sources" if self.sources is not None else "causal groups"
                raise ArzooError(f"plan {self.name!r}: readout {self.readout!r} takes no {refused}")
            return
        if self.sources is None:
            raise ArzooError(f"plan {self.name!r}: readout 'shifted' needs sources (N, H)")
        sources = self.sources if self.sources.dim() == 3 else self.sources[None]
        batch = max(len(sources), len(rank))
        index = sources.clamp(min=0).flatten(1).expand(batch, -1)
        source_rank = slot_rank.expand(batch, -1).gather(1, index).view(batch, *sources.shape[1:])
        if bool(((source_rank >= rank[..., None]) & (sources >= 0) & (rank[..., None] >= 0)).any()):
            raise ArzooError(
                f"plan {self.name!r}: a source must be committed before the position it predicts"
            )

    def _check_copies(self, slot_rank: Tensor) -> None:
        if self.copies is None:
            return
        of, place = (slot_rank[:, column] for column in self.copies.unbind(1))
        if bool(((of > self.extra_rank) | (place <= self.extra_rank)).any()):
            raise ArzooError(
                f"plan {self.name!r}: a copy must be fed after its token is committed, and before that of its place"
            )

    def _count(self, sizes: list[int]) -> list[Progress]:
        stages, out = sorted(set(self.stage)), []
        reached: dict[int, tuple[int, int]] = {}
        given = sizes[0] if len(stages) == 1 else 0
        totals = {
            s: given + sum(n for n, t in zip(sizes[1:], self.stage, strict=True) if t == s) for s in stages
        }
        steps = {s: self.stage.count(s) for s in stages}
        for size, stage in zip(sizes[1:], self.stage, strict=True):
            step, done = reached.get(stage, (0, given))
            out.append(Progress(step, steps[stage], done, done + size, totals[stage], stage))
            reached[stage] = step + 1, done + size
        return out

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def extras(self) -> int:
        """Number of learned extra inputs."""
        return len(self.extra_rank) if self.copies is None else 0

    @property
    def axes(self) -> int:
        """Number of readout heads, 1 unless `sources` says otherwise."""
        return 1 if self.sources is None else self.sources.shape[-1]

    @property
    def unsourced(self) -> Tensor:
        """(1 or B, N) bool, positions that no readout head predicts: they must be given before the first step."""
        if self.sources is None:
            return torch.zeros_like(self.slot_rank[:, : self.layout.size], dtype=torch.bool)
        nothing = (self.sources == NONE).all(-1)
        return nothing if nothing.dim() == 2 else nothing[None]

    @property
    def slots(self) -> int:
        """Number of slots: positions and extra inputs."""
        return self.slot_rank.shape[1]

    @property
    def stages(self) -> int:
        """Number of stages."""
        return max(self.stage) + 1

    def stage_layout(self, stage: int) -> Layout:
        """Positions of a stage: a level of the pyramid if the plan has several stages."""
        return self.layout if self.stages == 1 else self.layout.levels[stage]  # type: ignore[union-attr]

    def fed(self, first: int, last: int) -> Tensor:
        """Slots of ranks first..last-1 in feeding order, (1 or B, S). Rank -1 contains the given tokens."""
        return self._order[:, self._feeds[first + 1] : self._feeds[last + 1]]

    def ranks_fed(self, first: int, last: int) -> int:
        """Number of ranks in first..last-1 that have slots; feeding more than one at once needs a mask."""
        return sum(self._feeds[k + 2] > self._feeds[k + 1] for k in range(first, last))

    def places(self, slots: Tensor) -> Tensor:
        """Where slots are fed, like `slots`: positions as they are, copies at the positions of other tokens."""
        if self.copies is None:
            return slots
        copy = (slots - self.layout.size).clamp(min=0)
        return torch.where(slots < self.layout.size, slots, self.copies[copy, 1])

    def mask(self, query: Tensor, key: Tensor) -> Tensor:
        """Attention rule (R, Q, K) between slots: True where `rank[query] >= rank[key]`; see `causal` and `copies`.

        Args:
            query: (1 or R, Q) slots; R is B, or a multiple of it if the samples are repeated as a whole.
            key: (1 or R, K) slots.
        """
        batch = max(len(query), len(key), len(self.slot_rank))
        rank = self.slot_rank.to(query.device).repeat(batch // len(self.slot_rank), 1)
        query_rank = rank.gather(1, query.expand(batch, -1))[:, :, None]
        key_rank = rank.gather(1, key.expand(batch, -1))[:, None]
        allowed = query_rank >= key_rank
        if self.causal:
            allowed &= (query_rank > key_rank) | (query[:, :, None] >= key[:, None])
        if self.copies is None:
            return allowed
        place = self.places(key)
        replaced = rank.gather(1, place.expand(batch, -1)).masked_fill(key < self.layout.size, len(self))
        return allowed & (self.places(query)[:, :, None] >= place[:, None]) & (query_rank < replaced[:, None])

    def source(self, positions: Tensor) -> Tensor:
        """Slots (1 or B, m, H) whose features predict positions (1 or B, m)."""
        assert self.sources is not None
        if self.sources.dim() == 2:
            return self.sources[positions]
        index = positions.expand(len(self.sources), -1)[..., None].expand(-1, -1, self.axes)
        return self.sources.gather(1, index)

    def drawn(self, step: int) -> Tensor:
        """Positions (1 or B, m) that are drawn at a step: its group, or all positions if the plan is `confident`."""
        if self.confident:
            return torch.arange(self.layout.size, device=self.rank.device)[None]
        return self.groups[step]

    def progress(self, step: int) -> Progress:
        """Progress of the run at a step, the argument of every schedule."""
        return self._progress[step]

    def committed(self, step: int) -> int:
        """Number of tokens that have a value before a step, in all stages, including those given from the start."""
        return self.layout.size - sum(group.shape[1] for group in self.groups[step:])

    def select(self, index: Tensor) -> Plan:
        """Plan of some rows; the plan itself if the order is the same for all samples."""
        sources = self.sources
        if len(self.slot_rank) == 1 and (sources is None or sources.dim() == 2 or len(sources) == 1):
            return self
        if sources is not None and sources.dim() == 3:
            sources = sources[index]
        return replace(self, rank=self.rank[index], sources=sources)

    def to(self, device: torch.device | str) -> Plan:
        """Move the plan to a device."""
        if self.rank.device == torch.device(device):
            return self
        tensors = ("rank", "sources", "extra_rank", "copies")
        here = {name: getattr(self, name) for name in tensors}
        return replace(self, **{name: x.to(device) for name, x in here.items() if x is not None})

    def __str__(self) -> str:
        return f"{self.name}: {len(self)} steps over {self.layout.size} positions, readout {self.readout}"
