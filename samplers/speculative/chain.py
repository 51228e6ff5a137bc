"""Rules that keep a draft or draw another token, with the law of the target: token by token, or a chain at once.

A draft x was drawn from a law q; p is the law that the token must have. The rules look at nothing else, so they hold
for whatever drafts: a smaller model, the model itself with older contexts, or a guess (q has all mass at one code).
The closer q is to p, the more drafts are kept; 1 minus their total variation distance is the share.

* `chain`: each draft against its own laws ("Fast Inference from Transformers via Speculative Decoding", 2023, section
  2.3; "Accelerating Large Language Model Decoding with Speculative Sampling", 2023);
* `block`: all drafts together, of which never fewer are kept ("Block Verification", 2024, section 3).

Shapes: B samples, m positions, g drafts that follow each other, k candidates, V codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.core.draws import Draws


@dataclass(frozen=True)
class Verdict:
    """What a rule decides about the drafts or candidates of a token.

    Attributes:
        keep: (..., k) probability that a candidate is kept if none before it was.
        rest: (..., V) law of the token if none is kept.
    """

    keep: Tensor
    rest: Tensor

    def choose(self, codes: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Draw the token.

        Args:
            codes: (B, m, k) the candidates.
            draws: Randomness, of which the candidates must not depend.

        Returns:
            The token (B, m), and the number (B, m) of the candidate that it is, k if it is none of them.
        """
        kept = draws.uniform(codes.shape).to(codes.device) < self.keep
        index = torch.where(kept.any(-1), kept.int().argmax(-1), codes.shape[-1])
        tokens = torch.cat([codes, draws.categorical(self.rest)[..., None]], -1)
        return tokens.gather(-1, index[..., None])[..., 0], index


def normalised(mass: Tensor, otherwise: Tensor) -> Tensor:
    """Law proportional to `mass` (..., V); the other one where there is no mass, which only rounding can lead to."""
    total = mass.sum(-1, keepdim=True)
    return torch.where(total > 0, mass / total, otherwise)


def law(p: Tensor) -> Tensor:
    """Law in float64 that sums to 1 there: the rules subtract laws that are almost equal."""
    p = p.double()
    return p / p.sum(-1, keepdim=True)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """Law (..., V) of a token if a draft from q was not kept: (p - q)+, normalised; p if nothing is left of it."""
    return normalised((p - q).clamp(min=0), p)


def ratio(p: Tensor, q: Tensor, code: Tensor) -> Tensor:
    """p / q (..., k) at codes; 0 if q cannot draw it: candidates beyond the support of q change nothing."""
    drafted = q.gather(-1, code)
    return torch.where(drafted > 0, p.gather(-1, code) / drafted, 0.0)


def chain(p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    """Judge one draft a token.

    A draft that follows another one in a chain may be used only if that was kept, and p must be the law after what was
    committed. Where several tokens make a rank of a plan, all of them must have been kept.

    Args:
        p: (..., V) target law.
        q: (..., V) law that the draft was drawn from.
        codes: (..., 1) drafts.
    """
    p, q = law(p), law(q)
    return Verdict(ratio(p, q, codes).clamp(max=1), residual(p, q))


def block(p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    """Judge drafts that follow each other, together.

    Args:
        p: (..., g, V) target laws, each after the drafts before it.
        q: (..., g, V) laws that the drafts were drawn from.
        codes: (..., g) drafts.

    Returns:
        keep (..., g): probability that so many drafts (1 to g) are kept if no longer part of the chain was.
        rest (..., g, V): law of the token after 0 to g - 1 kept drafts.
    """
    p, q = law(p), law(q)
    shares, share = list[Tensor](), torch.ones_like(p[..., 0, 0])
    for odds in ratio(p, q, codes[..., None])[..., 0].unbind(-1):
        shares.append(share)
        share = (share * odds).clamp(max=1)
    left = (torch.stack(shares, -1)[..., None] * p - q).clamp(min=0)
    mass, kept = left.sum(-1)[..., 1:], torch.stack([*shares[1:], share], -1)
    whole = mass + 1 - kept[..., :-1]  # 0 only if a longer part is kept for certain
    keep = torch.where(whole > 0, mass / whole, 1.0)
    return Verdict(torch.cat([keep, kept[..., -1:]], -1), normalised(left, p))


def kept_of_block(verdict: Verdict, draws: Draws) -> Tensor:
    """Draw how many drafts (B,) of each chain are kept, from a verdict of `block` on (B, g) drafts."""
    below = draws.uniform(verdict.keep.shape).to(verdict.keep.device) < verdict.keep
    count = torch.arange(1, below.shape[-1] + 1, device=below.device)
    return (below * count).amax(-1)
