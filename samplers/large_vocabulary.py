"""Top-k and top-p of many codes on a CPU, where sorts and repeated sums of them may take longer than the network.

The bit patterns of probabilities are ordered like the probabilities, so their upper bits number bins, and counts and
masses of the bins say in which one a filter ends. Only the codes of that bin, a few hundred, are sorted. What is kept
is what sorting all codes would keep.

Shapes: R rows, V codes, C codes of one bin.
"""

from __future__ import annotations

import math
from copy import copy

import numpy as np
import torch
from torch import Tensor

LEAST = 8192
"""Codes from which this pays."""
_AT_ONCE = 1 << 18
"""Logits that are filtered at once: memory that is written for the first time costs more than arithmetic."""
_BITS = 12
"""The most bits of the number of a bin."""


def pays(logits: Tensor) -> bool:
    """Whether `filter_` takes these logits (..., V), and is the fastest way."""
    plain = logits.dtype == torch.float32 and logits.is_contiguous() and not logits.requires_grad
    return logits.device.type == "cpu" and logits.shape[-1] >= LEAST and plain and logits.numel() > 0


def filter_(logits: Tensor, k: int, p: float) -> Tensor:
    """Keep the k most likely codes, and of these the smallest set of the most likely whose mass exceeds p, in place.

    Args:
        logits: (..., V) float32; turned into weights, in the ratios of the softmax, that are zero outside the filters.
        k: Codes to keep, ties with the last one included; V or more keeps all.
        p: Share of the mass of the k codes, ties with the last code included; 1 or more keeps all.
    """
    rows = logits.view(-1, logits.shape[-1])
    parts = rows.split(max(_AT_ONCE // rows.shape[-1], 1))
    scratch = _Scratch(*parts[0].shape)
    for part in parts:
        _filter(part, k, p, scratch.first(len(part)))
    return logits


class _Scratch:
    """Memory of intermediate results (R, V)."""

    def __init__(self, rows: int, codes: int) -> None:
        self.probs, self.kept = torch.empty(2, rows, codes)
        self.bins = torch.empty(rows, codes, dtype=torch.int32)
        self.index = torch.empty(rows, codes, dtype=torch.long)
        self.terms = torch.empty(rows, codes, dtype=torch.float64)

    def first(self, rows: int) -> _Scratch:
        """The first rows."""
        part = copy(self)
        for name, values in vars(self).items():
            setattr(part, name, values[:rows])
        return part


def _filter(logits: Tensor, k: int, p: float, scratch: _Scratch) -> None:
    """`filter_` of few rows (R, V)."""
    probs = torch.softmax(logits, -1, out=scratch.probs)
    bits = probs.view(torch.int32)
    ends = probs.amin(), probs.amax()
    if bool(ends[1].isnan()):
        _filter_numbers(logits, k, p, scratch)
        return
    low, high = (int(end.view(torch.int32)) for end in ends)
    # Bin 0 holds the least likely codes; sums are in falling order, so its place is the last.
    shift = max((high - low).bit_length() - _BITS, 0)
    final = (high - low) >> shift
    bins = torch.sub(bits, low, out=scratch.bins).bitwise_right_shift_(shift)
    # Every code adds 2 and its probability: one sum holds the count and the mass of a bin, which is less than 2.
    sums = torch.zeros(len(probs), final + 1, dtype=torch.float64)
    sums = sums.scatter_add_(1, scratch.index.copy_(bins), scratch.terms.copy_(probs).add_(2)).flip(-1)
    counts = sums.div(2).floor_()
    masses = sums.sub_(counts, alpha=2).cumsum_(-1)
    most = p * masses[:, -1:]
    if k < logits.shape[-1]:
        counts.cumsum_(-1)
        place = torch.searchsorted(counts, torch.full_like(most, k))
        # Of codes without probability any may stay.
        members = _Members(bins, final - place.where((place < final) | (low > 0), final + 1))
        number = (k - 1 - _before(counts, place)).long()
        least = members.sorted(logits).gather(1, number.clamp(0, members.most - 1))
        probs *= torch.ge(logits, least, out=scratch.kept)
        most = p * (
            _before(masses, place) + members.of(probs, 0.0).sum(-1, keepdim=True, dtype=torch.float64)
        )
    if p < 1:
        place = torch.searchsorted(masses, most, right=True)
        members = _Members(bins, final - place)
        ordered = members.sorted(probs)
        running = _before(masses, place) + ordered.clamp(min=0).cumsum(-1, dtype=torch.float64)
        last = torch.searchsorted(running, most, right=True)
        last = torch.minimum(last, members.counts[:, None] - 1).clamp(min=0)
        probs *= torch.ge(probs, ordered.gather(1, last), out=scratch.kept)
    logits.copy_(probs)


def _filter_numbers(logits: Tensor, k: int, p: float, scratch: _Scratch) -> None:
    """`_filter` of the rows that a network that failed has left; the others become NaN."""
    failed = logits.softmax(-1).isnan().any(-1)
    rest = logits[~failed]
    if len(rest):
        _filter(rest, k, p, scratch.first(len(rest)))
    logits[~failed], logits[failed] = rest, math.nan


def _before(running: Tensor, place: Tensor) -> Tensor:
    """Running sums (R, 1) before a place."""
    return torch.where(place > 0, running.gather(1, (place - 1).clamp(min=0)), 0.0)


class _Members:
    """The codes in one bin of each row.

    Args:
        bins: (R, V) int32.
        chosen: (R, 1) the bin; one that no code is in for none.

    Attributes:
        counts: (R,) number of codes.
        most: C, the largest number of a row, at least 1.
    """

    def __init__(self, bins: Tensor, chosen: Tensor) -> None:
        # NumPy compares, and finds the few that match, in a fraction of torch's time.
        self.places = torch.from_numpy(np.flatnonzero(bins.numpy() == chosen.int().numpy()))
        self.rows = torch.div(self.places, bins.shape[1], rounding_mode="floor")
        self.counts = torch.bincount(self.rows, minlength=len(bins))
        self.most = max(int(self.counts.max()), 1)
        self.columns = torch.arange(len(self.places)) - (self.counts.cumsum(0) - self.counts)[self.rows]

    def of(self, values: Tensor, rest: float) -> Tensor:
        """Values (R, C) of the codes, of (R, V); `rest` where a row has fewer."""
        table = torch.full((len(self.counts), self.most), rest)
        table[self.rows, self.columns] = values.reshape(-1)[self.places]
        return table

    def sorted(self, values: Tensor) -> Tensor:
        """Values (R, C) in falling order; -inf where a row has fewer."""
        return self.of(values, -math.inf).sort(-1, descending=True).values
