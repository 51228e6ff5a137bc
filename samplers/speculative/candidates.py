"""Several candidates for one token: rules that keep one of them or draw another, with the law of the target.

Candidates are drawn from a draft law q, and judged by the target law p. A rule says with which probability it keeps
each candidate if it kept none before it, and from which law the token comes if it keeps none. Whatever q is, the token
that comes out has law p (the tests enumerate it); the closer q is to p, the more often it is a candidate.

* `recursive`: independent candidates, each against what the earlier ones left of p ("SpecInfer", 2023, section 4.3);
* `k_seq`: independent candidates, all against p / rho ("SpecTr", 2023, section 4);
* `distinct`: candidates drawn without replacement ("Recursive Speculative Decoding", 2024, section 3.1);
* `top`: the most likely codes of q, which are no draw; almost useless where q is flat, as it is on pictures.

With flat laws `k_seq` keeps most, with peaked ones `distinct`. Shapes: B samples, m positions, k candidates, V codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arzoo.core.draws import Draws
from arzoo.samplers.speculative.chain import Verdict, law, normalised, ratio, residual


def recursive(p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    """Judge independent draws from q, each by the residual that the earlier ones left.

    Args:
        p: (..., V) target law.
        q: (..., V) draft law.
        codes: (..., k) candidates.
    """
    p, q, keep = law(p), law(q), []
    for code in codes.split(1, -1):
        keep.append(ratio(p, q, code).clamp(max=1))
        p = residual(p, q)
    return Verdict(torch.cat(keep, -1), p)


def k_seq(p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    """Judge independent draws from q, each by p / rho; arguments as in `recursive`.

    Every draw is kept with probability b(rho) = sum min(q, p / rho). The smallest rho in [1, k] for which the residual
    is nowhere negative solves 1 - (1 - b)^k = rho b; bisection comes to it from above.
    """
    p, q, count = law(p), law(q), codes.shape[-1]
    low, high = torch.ones_like(p[..., :1]), torch.full_like(p[..., :1], count)
    for _ in range(60):
        rho = (low + high) / 2
        each = torch.minimum(q, p / rho).sum(-1, keepdim=True)
        negative = 1 - (1 - each) ** count > rho * each
        low, high = torch.where(negative, rho, low), torch.where(negative, high, rho)
    kept = torch.minimum(q, p / high)
    each = kept.sum(-1, keepdim=True)
    share = torch.where(each > 0, (1 - (1 - each) ** count) / each, 0.0)
    return Verdict(ratio(p / high, q, codes).clamp(max=1), normalised((p - kept * share).clamp(min=0), p))


def distinct(p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    """Judge draws from q without replacement, each by the residual, and by q without the earlier ones.

    Arguments as in `recursive`. Candidates beyond the support of q are never kept.
    """
    p, q, keep = law(p), law(q), []
    for code in codes.split(1, -1):
        keep.append(ratio(p, q, code).clamp(max=1))
        p, q = residual(p, q), q.scatter(-1, code, 0.0)
        q = normalised(q, q)
    return Verdict(torch.cat(keep, -1), p)


def top(p: Tensor, q: Tensor, codes: Tensor) -> Verdict:
    """Judge codes that are no draws: each is kept as often as p without the earlier ones draws it.

    Arguments as in `recursive`.
    """
    p, keep = law(p), []
    for code in codes.split(1, -1):
        keep.append(p.gather(-1, code))
        p = normalised(p.scatter(-1, code, 0.0), p)
    return Verdict(torch.cat(keep, -1), p)


def _independent(q: Tensor, count: int, draws: Draws) -> Tensor:
    """Candidates (B, m, k), each drawn from q (B, m, V)."""
    rows = q[:, :, None].expand(-1, -1, count, -1).flatten(1, 2)
    return draws.categorical(rows).unflatten(1, (-1, count))


def _different(q: Tensor, count: int, draws: Draws) -> Tensor:
    """Candidates (B, m, k), drawn from q (B, m, V) one after another without replacement."""
    return draws.distinct(q.log(), count)


def _likeliest(q: Tensor, count: int, draws: Draws) -> Tensor:
    """Candidates (B, m, k), the most likely of q (B, m, V)."""
    return q.topk(count).indices


@dataclass(frozen=True)
class Rule:
    """A rule for candidates.

    Attributes:
        draw: `draw(q (B, m, V), k, draws)`, the candidates (B, m, k), different ones if they are not independent.
        judge: `judge(p, q, codes)`, the verdict on them.
    """

    draw: Callable[[Tensor, int, Draws], Tensor]
    judge: Callable[[Tensor, Tensor, Tensor], Verdict]


RULES = {
    "recursive": Rule(_independent, recursive),
    "k_seq": Rule(_independent, k_seq),
    "distinct": Rule(_different, distinct),
    "top": Rule(_likeliest, top),
}
"""Rules by name."""
