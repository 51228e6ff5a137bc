"""Steps of a search: drawing on, and branching into candidates.

Only the last step of a chunk branches; the steps before it are drawn once per row, and candidates share the caches of
the row that they branch from, because their last token is not fed before the next chunk.

Shapes: B rows of a run, n candidates, N positions, m positions of a group, V codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.core.tokens import Mixed, Tokens
from arzoo.samplers.loop import Drawn, Model, Proposal, Run, commit, draw, drawn, propose
from arzoo.samplers.search.budget import Meter


@dataclass
class Pool:
    """Candidates of a comparison.

    Attributes:
        run: The rows that they branch from.
        tokens: Canvases of the n candidates.
        parents: (n,) the row of `run` that each branches from; candidates of a row stand side by side.
        seeds: Seeds of the candidates.
        log_probs: (n,) in nats, of the tokens drawn in this chunk; None if a head does not know them.
        k: The next step.
        last: The last group that was drawn, of every candidate.
    """

    run: Run
    tokens: Tokens
    parents: Tensor
    seeds: Sequence[int]
    log_probs: Tensor | None
    k: int
    last: Drawn | None

    def keep(self, index: Tensor) -> Run:
        """Fork the run of some candidates."""
        parents = self.parents[index]
        run = self.run.select(parents, [self.seeds[i] for i in index.tolist()])
        run.tokens, run.k = self.tokens.select(index), self.k
        run.last = None if self.last is None else self.last.select(index)
        return run

    def fork(self) -> Run:
        """Fork the run of all candidates."""
        return self.keep(torch.arange(len(self.parents), device=self.parents.device))

    def select(self, index: Tensor) -> Pool:
        """Some candidates."""
        return replace(
            self,
            tokens=self.tokens.select(index),
            parents=self.parents[index],
            seeds=[self.seeds[i] for i in index.tolist()],
            log_probs=None if self.log_probs is None else self.log_probs[index],
            last=None if self.last is None else self.last.select(index),
        )


def distinct(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Find equal canvases.

    Returns:
        Rows that equal none before them, and (n,) for each row which of those it equals.
    """
    known = tokens.known.cpu()
    values = tokens.values.cpu().masked_fill(~known.view(*known.shape, *[1] * (tokens.values.dim() - 2)), 0)
    parts = [known, values] if tokens.mixed is None else [known, values, tokens.mixed.cpu()]
    numbers, first, same = dict[bytes, int](), list[int](), list[int]()
    for i, row in enumerate(zip(*(part.flatten(1).numpy() for part in parts), strict=True)):
        same.append(numbers.setdefault(b"".join(part.tobytes() for part in row), len(first)))
        if same[-1] == len(first):
            first.append(i)
    return torch.tensor(first, device=tokens.values.device), torch.tensor(same)


def alternatives(seed: int, numbers: Iterable[int]) -> list[int]:
    """Seeds of alternatives to a sample; number 0 is the sample itself."""
    return [sample_seed(seed, i) if i else seed for i in numbers]


def together(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Rows of all parts; None if one has none."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Canvases of all rows."""
    values, known, given, length = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("values", "known", "given", "length")
    )
    return Tokens(values, known, given, length, parts[0].layout, together([part.mixed for part in parts]))


@torch.no_grad()
def read(model: Model, run: Run, greedy: bool = False) -> Proposal:
    """Read the next group, to draw it as the knobs say or greedily.

    A head that knows its probabilities predicts once for drawing and for them.
    """
    proposal = propose(model, run)
    if greedy and "greedy" in proposal.head.knobs:
        proposal.settings = replace(proposal.settings, greedy=True)
    if proposal.head.enumerates:
        logits = proposal.predict()
        proposal.predict = lambda x=None, t=None: logits.clone()  # the filters overwrite logits
    return proposal


def _log_probs(run: Run, proposal: Proposal, group: Tensor, values: Tensor | Mixed) -> Tensor | None:
    """Log-probability (B,) of the tokens of a group that are not given."""
    if not proposal.head.enumerates:
        return None
    table = proposal.head.log_probs(proposal.predict, proposal.settings)
    codes = values.codes if isinstance(values, Mixed) else values
    each = table.gather(-1, codes[..., None])[..., 0]
    rows, positions = len(each), run.tokens.known.shape[1]
    canvas = each.new_zeros(rows, positions)
    canvas = canvas.scatter(1, proposal.read.positions.expand(rows, -1), each)
    group = group.expand(rows, -1)
    return canvas.gather(1, group).masked_fill(run.tokens.given.gather(1, group), 0).sum(1)


@torch.no_grad()
def entropy(run: Run, proposal: Proposal) -> Tensor | None:
    """Entropy (B,) of the next step, in nats, the mean over its tokens that are not known; None if a head has none."""
    if not proposal.head.enumerates:
        return None
    each = torch.special.entr(proposal.head.log_probs(proposal.predict, proposal.settings).exp()).sum(-1)
    unknown = ~run.tokens.known.gather(1, proposal.read.positions.expand(len(each), -1))
    return (each * unknown).sum(1) / unknown.sum(1).clamp(min=1)


def added(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Sum of log-probabilities, unknown if one is."""
    return None if first is None or second is None else first + second


@torch.no_grad()
def advance(
    model: Model,
    run: Run,
    until: int,
    meter: Meter,
    greedy: bool = False,
    entropies: list[Tensor | None] | None = None,
) -> Tensor | None:
    """Draw every step before `until`, in place.

    Args:
        model: Backbone and heads.
        run: The run; it is changed.
        until: The step to stop before.
        meter: Counts the work.
        greedy: Take the most likely codes, whatever the knobs say; heads without that knob draw as usual.
        entropies: Gets the `entropy` of every step.

    Returns:
        Log-probabilities (B,), in nats, of the tokens drawn; None if a head does not know them.
    """
    rows = len(run.tokens.values)
    log_probs: Tensor | None = torch.zeros(rows, device=run.tokens.values.device)
    while run.k < until:
        meter.add(meter.work.drawing(run.k, run.k + 1, rows))
        with meter.timing("generator"):
            proposal = read(model, run, greedy) if run.todo[run.k] else None
        if entropies is not None and proposal is not None:
            entropies.append(entropy(run, proposal))
        log_probs = added(log_probs, take(run, proposal, meter))
    return log_probs


@torch.no_grad()
def take(run: Run, proposal: Proposal | None, meter: Meter) -> Tensor | None:
    """Draw and commit the next step, which was read; its proposal is None if all its tokens are given.

    Returns:
        Log-probabilities (B,) of the tokens drawn; None if a head does not know them.
    """
    log_probs: Tensor | None = torch.zeros(len(run.tokens.values), device=run.tokens.values.device)
    with meter.timing("generator"):
        group, values = draw(run, proposal)
    if proposal is not None and values is not None:
        log_probs = _log_probs(run, proposal, group, values)
    commit(run, group, proposal, values)
    return log_probs


@torch.no_grad()
def branch(model: Model, run: Run, until: int, candidates: int, meter: Meter) -> Pool:
    """Draw every step before `until`, of which the last with tokens to draw branches.

    A step of one code branches into different codes, drawn without replacement (the most likely ones under greedy
    settings). Vectors, several codebooks and groups of several tokens are drawn independently for every candidate, and
    of equal ones one is kept.

    Args:
        model: Backbone and heads.
        run: The run; it is changed.
        until: The step to stop before.
        candidates: Candidates per row. Where filters leave fewer codes, there are as many as codes.
        meter: Counts the work.

    Raises:
        ArzooError: A step of one code has more candidates than codes.
    """
    step = meter.work.last_drawn(run.k, until)
    log_probs = advance(model, run, until if step is None else step, meter)
    rows = len(run.tokens.values)
    if step is None:
        parents = torch.arange(rows, device=run.tokens.values.device)
        return Pool(run, run.tokens, parents, run.draws.seeds, log_probs, until, run.last)
    meter.add(meter.work.drawing(step, step + 1, rows))
    with meter.timing("generator"):
        proposal = read(model, run)
    return spread(run, proposal, log_probs, until, candidates, meter)


@torch.no_grad()
def spread(
    run: Run, proposal: Proposal, log_probs: Tensor | None, until: int, candidates: int, meter: Meter
) -> Pool:
    """Candidates for the next step of a run, which was read; what follows before `until` is given.

    Args:
        run: The run; it stays as it is.
        proposal: The step.
        log_probs: (B,) of the tokens drawn before in this chunk.
        until: The next step of the candidates.
        candidates: As in `branch`.
        meter: Counts the work, except that of reading.

    Raises:
        ArzooError: As `branch`.
    """
    rows = len(run.tokens.values)
    meter.add(meter.work.alternatives(proposal.k, rows, candidates))
    parents = torch.arange(rows, device=run.tokens.values.device).repeat_interleave(candidates)
    seeds = [sample_seed(seed, i) for seed in run.draws.seeds for i in range(candidates)]
    if log_probs is not None:
        log_probs = log_probs[parents]
    last = drawn(run, proposal, proposal.group).select(parents)
    pool = Pool(run, run.tokens.select(parents), parents, seeds, log_probs, until, last)
    if one_code(proposal):
        pool = _different(pool, proposal, candidates)
    else:
        with meter.timing("generator"):
            _independent(pool, proposal, candidates)
        pool = pool.select(distinct(pool.tokens)[0])
    for k in range(proposal.k + 1, until):
        pool.tokens.mark_known(_rows(run.plan.groups[k], pool.parents))
    return pool


def one_code(proposal: Proposal) -> bool:
    """Whether a step draws one code, whose alternatives can be listed."""
    mixed = proposal.settings.more_smooth is not None  # then a draw is no code of a list
    return proposal.head.enumerates and proposal.read.positions.shape[1] == 1 and not mixed


def _rows(x: Tensor, parents: Tensor) -> Tensor:
    """Rows of candidates, of a tensor (1 or B, ...)."""
    return x if len(x) == 1 else x[parents]


def _different(pool: Pool, proposal: Proposal, candidates: int) -> Pool:
    """Commit different codes to the candidates of each row; those without mass are left out."""
    table = proposal.head.log_probs(proposal.predict, proposal.settings)[:, 0]
    if candidates > table.shape[1]:
        raise ArzooError(
            f"{candidates} different candidates are asked of a step whose token has {table.shape[1]} codes; ask for at "
            "most as many candidates or trials (with scale_first, candidates times width)"
        )
    if proposal.settings.greedy:
        order = table.sort(descending=True, stable=True).indices  # topk takes ties in any order
        codes = order[:, :candidates]
    else:
        codes = pool.run.draws.at(proposal.k).distinct(table, candidates)
    chances = table.gather(1, codes).flatten()
    group = _rows(proposal.group, pool.parents)
    pool.tokens.commit(group, codes.reshape(-1, 1), group)
    pool.log_probs = added(pool.log_probs, chances)
    possible = (chances > -torch.inf).nonzero()[:, 0]
    return pool if len(possible) == len(chances) else pool.select(possible)


def _independent(pool: Pool, proposal: Proposal, candidates: int) -> None:
    """Commit a group to every candidate, drawn with its own seed."""
    run, groups, values, chances = pool.run, [], [], []
    rows = range(len(run.tokens.values))
    for i in range(candidates):
        fork = replace(run, draws=run.draws.select(rows, pool.seeds[i::candidates]))
        group, new = draw(fork, proposal)
        assert new is not None
        groups.append(group.expand(len(rows), -1))
        values.append(new)
        chances.append(_log_probs(run, proposal, group, new))
    group = torch.stack(groups, 1).flatten(0, 1)
    pool.last = None if pool.last is None else replace(pool.last, group=group)
    pool.tokens.commit(
        group,
        Mixed.interleaved(values),
        _rows(proposal.read.positions, pool.parents),
    )
    known = [each for each in chances if each is not None]
    pool.log_probs = added(pool.log_probs, torch.stack(known, 1).flatten() if known else None)
