"""Rules that keep more drafts than an exact rule does, for pictures of almost the same look: the law changes.

The probability of many codes on a picture is spread over others that look alike, so an exact rule rejects drafts that
would have done. These rules count codes that look alike together. What comes out has another law than the model, by an
amount that no setting bounds (the tests measure it for one token), so they are refused unless asked for by name.

* `near`: neighbours in the codebook lend their probability ("LANTERN", 2024, section 3; its successor's limit in units
  of the code's own probability is a `delta` above 1, "LANTERN++", 2025, section 3);
* `alike`: codes of similar probability are judged as one ("Grouped Speculative Decoding", 2025, section 3);
* `judged`: a judge may keep what the exact rule would not ("Judge Decoding", 2025, section 4).

Each is exact at its mildest setting. Shapes: V codes, C channels, n neighbours; arguments p, q and codes as in `chain`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.samplers.speculative.chain import Verdict, chain, law, residual


def neighbours(codebook: Tensor, count: int) -> Tensor:
    """Nearest other codes (V, n) of each code, nearest first, from vectors (V, C); all others if there are fewer."""
    distances = torch.cdist(codebook.float(), codebook.float()).fill_diagonal_(torch.inf)
    return distances.topk(min(count, len(codebook) - 1), largest=False).indices


def near(p: Tensor, q: Tensor, codes: Tensor, around: Tensor, delta: float) -> Verdict:
    """Judge drafts by the probability of a code and its neighbours.

    The published code takes all neighbours out of q before the residual, this one those that lent something, so that
    `delta` 0 is exact.

    Args:
        p: (..., V) target law.
        q: (..., V) law that the draft was drawn from.
        codes: (..., 1) drafts.
        around: (V, n) neighbours of each code, nearest first.
        delta: Neighbors lend until their probability is more than this, or, above 1, more than delta - 1 times that
            of the code.
    """
    p, q = law(p), law(q)
    own, lenders = p.gather(-1, codes), around[codes[..., 0]]
    lent = p.gather(-1, lenders)
    lends = lent.cumsum(-1) <= (delta if delta <= 1 else (delta - 1) * own)
    together = own + (lent * lends).sum(-1, keepdim=True)
    less = q.scatter(-1, lenders, q.gather(-1, lenders) * ~lends)
    return Verdict(_share(together, q.gather(-1, codes)), residual(p, less))


def alike(p: Tensor, q: Tensor, codes: Tensor, size: int, tolerance: float) -> Verdict:
    """Judge drafts by the probabilities of a group of codes, to which p gives about the same probability.

    The published code also asks a table of codes that look alike.

    Args:
        p: (..., V) target law.
        q: (..., V) law that the draft was drawn from.
        codes: (..., 1) drafts.
        size: Codes on each side of the draft in the order of p.
        tolerance: The difference of their probability to that of the draft is less than this.
    """
    p, q = law(p), law(q)
    place = p.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
    apart = (place - place.gather(-1, codes)).abs()
    group = (apart <= size) & ((p - p.gather(-1, codes)).abs() < tolerance) | (apart == 0)
    masses = ((one * group).sum(-1, keepdim=True) for one in (p, q))
    return Verdict(_share(*masses), residual(p, q))


def judged(p: Tensor, q: Tensor, codes: Tensor, valid: Tensor) -> Verdict:
    """Judge drafts as `chain` does, and keep those besides that a judge calls valid.

    Args:
        p: (..., V) target law.
        q: (..., V) law that the draft was drawn from.
        codes: (..., 1) drafts.
        valid: (..., 1) the judge's probability that a draft is a valid continuation.
    """
    verdict = chain(p, q, codes)
    return Verdict(torch.maximum(verdict.keep, valid.to(verdict.keep)), verdict.rest)


def _share(mass: Tensor, drafted: Tensor) -> Tensor:
    """mass / drafted, at most 1; 0 if the draft could not have been drawn."""
    return torch.where(drafted > 0, mass / drafted, 0.0).clamp(max=1)
