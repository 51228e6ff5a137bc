"""A tree of drafts: a smaller model drafts several candidates for every token, each with candidates that follow it.

"SpecInfer" (2023), section 4, for trees; "Recursive Speculative Decoding" (2024), section 3.2, for candidates without
replacement. The tree is static: `widths` says how many candidates a node has at each step. One call of the model reads
all paths; from the root on, a rule (`arzoo.samplers.speculative.candidates`) keeps one of the candidates or draws
another token, which ends the path.

Paths are forked samples, which works with any cached backbone. It costs a copy of the cache for each path, and tokens
that paths share are computed for each: with widths of 4, 2 and 1 a call reads 8 paths of 4 tokens, where the plain loop
reads 1 token. Calls are saved where a call waits for memory or launches, not for arithmetic.

Shapes: B samples, P paths, m positions of a rank, w candidates, V codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.registry import register
from arzoo.core.contracts import Backbone, Head
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens
from arzoo.samplers.loop import Model, Run, proposal_of, propose
from arzoo.samplers.speculative.base import Load, Ready, count_of, streams, window_end
from arzoo.samplers.speculative.candidates import RULES
from arzoo.samplers.speculative.draft import Drafted, catch_up, drafter_of
from arzoo.samplers.speculative.forks import of_samples
from arzoo.samplers.speculative.verification import law_of, settled


class _Level(NamedTuple):
    """Candidates of one step, for all nodes of the level above, those of a sample in a row.

    Attributes:
        law: (B nodes, m, V) that they were drawn from.
        codes: (B nodes, m, w).
    """

    law: Tensor
    codes: Tensor


@dataclass(frozen=True)
class Tree(Drafted):
    """Let another generator draft a tree of candidates, and verify all of its paths with one call.

    Attributes:
        drafter: The other generator, with the tokenizer, the plan and the conditions of the one that draws.
        widths: Candidates of each node, by drafted step. (4,) is four candidates of one token.
        rule: How candidates are drawn and judged, a key of `RULES`.

    Raises:
        ArzooError: A width is not a number of candidates.
        UnknownName: There is no such rule.
    """

    widths: tuple[int, ...] = (4, 2, 1)
    rule: str = "distinct"

    def __post_init__(self) -> None:
        if not self.widths:
            raise ArzooError("a tree of drafts has at least one step of candidates, such as widths=(4, 2, 1)")
        for width in self.widths:
            whole_number(width, "number of candidates of a node", least=1)
        if self.rule not in RULES:
            raise UnknownName("rule for candidates", self.rule, RULES)

    def require(self, backbone: Backbone, plan: Plan, heads: Sequence[Head]) -> None:
        """Check that a model can be drawn in this way, and that the other one drafts its tokens.

        Raises:
            ArzooError: It cannot, the other one does not, or a node has more candidates than there are codes.
        """
        super().require(backbone, plan, heads)
        fewest = min(head.config.vocab for head in heads)
        if max(self.widths) > fewest:
            raise ArzooError(
                f"a node can have at most {fewest} candidates, one per code, got {max(self.widths)}"
            )

    def calls(self, model: Model, run: Run) -> Iterator[Sequence[Ready]]:
        """As `Speculation.calls`."""
        own = self.start(run)
        while run.k < len(run.plan):
            last = window_end(run, len(self.widths) + 1)
            catch_up(own, run)
            if not run.todo[run.k]:
                yield [(None, None)]
                continue
            noise = streams(run, last)
            levels, tokens = self._grow(run, own, last, noise)
            yield self._walk(model, run, last, levels, tokens, noise)

    def _grow(
        self, run: Run, own: Run, last: int, noise: dict[int, Draws]
    ) -> tuple[dict[int, _Level], Tokens]:
        """Draft the candidates of the steps from the next one to last - 2.

        Returns:
            The candidates by step, none where the group is given, and canvases (B P rows, those of a sample in a row)
            with the drafts of every path.
        """
        fork, tokens, levels, nodes = own, own.tokens, dict[int, _Level](), 1
        for k, width in zip(range(run.k, last - 1), self.widths, strict=False):
            fork.tokens = tokens
            if run.todo[k]:
                law = law_of(propose(self.drafter, fork))
                run.draft_passes += 1
                apart = law.unflatten(0, (-1, nodes)).flatten(1, 2)  # nodes of a sample share its randomness
                codes = RULES[self.rule].draw(apart, width, noise[k]).unflatten(1, (nodes, -1)).flatten(0, 1)
                levels[k], nodes = _Level(law, codes), nodes * width
                index = torch.arange(len(codes), device=codes.device).repeat_interleave(width)
                tokens, group = tokens.select(index), fork.plan.select(index).groups[k]
                tokens.commit(group, codes.transpose(1, 2).flatten(0, 1), group)
                if width > 1 and k + 2 < last:
                    fork = fork.select(index)
            fork.k = k + 1
        return levels, tokens

    def _walk(
        self,
        model: Model,
        run: Run,
        last: int,
        levels: dict[int, _Level],
        tokens: Tokens,
        noise: dict[int, Draws],
    ) -> list[Ready]:
        """Read all paths with one call, and follow one of them as far as its candidates are kept.

        The run's state becomes that of the path.
        """
        batch = run.state.batch
        paths, nodes = len(tokens.values) // batch, 1
        samples = torch.arange(batch, device=tokens.values.device)
        state = run.state if paths == 1 else run.state.select(samples.repeat_interleave(paths))
        run.passes += 1
        reads = model.backbone.window(state, tokens, run.k, last)
        node, row, ready = torch.zeros_like(samples), samples, list[Ready]()
        for k, read in enumerate(reads, run.k):
            row = samples * paths + node * (paths // nodes)  # all paths through a node read the same
            if not run.todo[k]:
                ready.append((None, None))
                continue
            proposal = proposal_of(model, run, k, of_samples(read, row, len(tokens.values)))
            law = law_of(proposal)
            if k not in levels:
                ready.append((proposal, noise[k].categorical(law)))
                break
            drawn_from, codes = (x[samples * nodes + node] for x in levels[k])
            width = codes.shape[-1]
            values, index = RULES[self.rule].judge(law, drawn_from, codes).choose(codes, noise[k])
            ready.append((proposal, values))
            child, kept = _child(index, settled(run, run.plan.groups[k]), width)
            if not bool(kept.all()):
                break
            node, nodes = node * width + child, nodes * width
        if paths > 1:
            run.state = state.select(row)
        return ready


def _child(index: Tensor, free: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Follow the candidate that all tokens of a rank are, if it is one and the same.

    Args:
        index: (B, m) number of the candidate that each token is, `width` if it is none.
        free: (B, m) bool, tokens that all candidates have.
        width: Number of candidates.

    Returns:
        The candidate (B,), and whether there is one, (B,) bool.
    """
    least, most = index.masked_fill(free, width).amin(1), index.masked_fill(free, -1).amax(1)
    return most.clamp(min=0), (most < 0) | ((least == most) & (most < width))


@register("speculation", "tree")
def read_tree(settings: str, load: Load) -> Tree:
    """tree:MODEL:WIDTHS, the law of the plain loop: a smaller model drafts so many candidates a token, step by step."""
    form = "tree:MODEL:4x2x1"
    name, widths = drafter_of(settings, "the candidates at each step", form)
    counts = tuple(count_of(width, form, "candidates") for width in widths.split("x"))
    return Tree(load(name), counts)
