"""A backbone whose law is a table, so that the law of its canvases is known; and all outcomes of a random program."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from unittest.mock import patch

import torch

from arzoo.core.canvas import BackboneConfig
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.samplers.loop import start
from arzoo.samplers.speculative import verification
from arzoo.samplers.speculative.chain import Verdict


def plan_of(*sizes):
    """An order of steps of so many tokens."""
    rank = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    # The last position of the step before; COND before the first.
    sources = torch.searchsorted(rank, rank) - 1
    return Plan(Ordered(len(rank)), rank, "shifted", sources[:, None], name="toy")


class Tables(Backbone):
    """Reads the tokens of earlier steps, as they were fed, and looks up the logits of the next ones.

    Args:
        plan: The order.
        laws: By step, (V ** tokens before, m, V) numbers, not necessarily normalized.
        null: The same without the condition.
    """

    config, windowed = BackboneConfig(), True

    def __init__(self, plan, laws, null=None):
        super().__init__()
        self.logits = [
            [part.float().log().clamp(min=-1e4) for part in parts] for parts in (laws, null or laws)
        ]
        self.width = laws[0].shape[-1]
        self.calls = 0

    def start(self, cond, plan, branches):
        state = super().start(cond, plan, branches)
        state.tensors["fed"] = torch.zeros(state.rows, plan.layout.size, dtype=torch.long)
        return state

    def step(self, state, tokens, step):
        return self.window(state, tokens, step, step + 1)[0]

    def window(self, state, tokens, first, last):
        self.calls += not state.complete(last - 1)
        slots, _ = state.pending(last - 1)
        fed = state.tensors["fed"]
        index = slots.expand(state.rows, -1)
        fed.scatter_(1, index, tokens.values.repeat(state.branches, 1).gather(1, index))
        return [
            Read(state.plan.groups[k], self._logits(k, fed, state)[:, :, None]) for k in range(first, last)
        ]

    def _logits(self, k, fed, state):
        before = state.plan.fed(-1, k)[0]
        context = torch.zeros(len(fed), dtype=torch.long)
        for position in before.tolist():
            context = context * self.width + fed[:, position]
        rows = context.chunk(state.branches)
        return torch.cat([part[k][row] for part, row in zip(self.logits, rows, strict=False)])


def model_of(plan, laws, null=None):
    """Backbone and head with these laws."""
    head = CategoricalConfig(width=laws[0].shape[-1], vocab=laws[0].shape[-1], plain=True).build()
    torch.nn.init.eye_(head.output.weight)
    return SimpleNamespace(backbone=Tables(plan, laws, null), heads=[head.eval()])


def random_laws(plan, vocab, seed, parts=None):
    """Laws at random; of multiples of 1 / parts, if that is given, some of them 0."""
    generator, before, laws = torch.Generator().manual_seed(seed), 0, []
    for group in plan.groups:
        shape = vocab**before, group.shape[1]
        if parts is None:
            laws.append(torch.rand(*shape, vocab, generator=generator, dtype=torch.float64) ** 2)
        else:
            drawn = torch.randint(vocab, (*shape, parts), generator=generator)
            laws.append(torch.stack([(drawn == code).sum(-1) for code in range(vocab)], -1).double() / parts)
        before += group.shape[1]
    return laws


def law_of_canvas(plan, laws, vocab):
    """Probability of every canvas."""
    law = {}
    for canvas in product(range(vocab), repeat=plan.layout.size):
        chance, context = 1.0, 0
        for k, group in enumerate(plan.groups):
            here = [canvas[i] for i in group[0].tolist()]
            for code, one in zip(here, laws[k][context], strict=True):
                chance *= float(one[code] / one.sum())
            for code in here:
                context = context * vocab + code
        law[canvas] = chance
    return law


def begin(model, plan, draws, control=None, given=None, branches=None):
    """A run of the model; `given` are (B, N) codes, -1 where they are to be drawn."""
    shape = draws.batch, plan.layout.size
    values = torch.full(shape, -1) if given is None else torch.tensor(given).expand(shape)
    tokens = Tokens.of(values.clamp(min=0), values >= 0)
    return start(model, plan, Cond(draws.batch), control or Control(), tokens, draws, branches)


class Script:
    """One course of a random program: choices made before, then the first possible one, the others being put off."""

    def __init__(self, path, others):
        self.path, self.others, self.taken, self.chance = path, others, [], 1.0
        self.noise = {}

    def choose(self, chances):
        """Number of an outcome with these chances."""
        possible = [i for i, chance in enumerate(chances) if chance > 0]
        if len(self.taken) < len(self.path):
            choice = self.path[len(self.taken)]
        else:
            choice = possible[0]
            self.others.extend((*self.taken, other) for other in possible[1:])
        self.taken.append(choice)
        self.chance *= chances[choice]
        return choice


class Scripted(Draws):
    """Draws whose outcomes a script chooses: in a first attempt one of `parts` equally likely noises a token."""

    def __init__(self, script, batch, parts=4, step=0, attempt=1):
        super().__init__([0] * batch)
        self.script, self.parts, self.place = script, parts, (step, attempt)

    def at(self, step, attempt=0):
        return Scripted(self.script, self.batch, self.parts, step, attempt)

    def select(self, index, seeds=None):
        return Scripted(self.script, len(index), self.parts, *self.place)

    def categorical(self, probs):
        rows = [self._code(i, row.tolist()) for i, row in enumerate(probs.flatten(0, -2))]
        return torch.tensor(rows).view(probs.shape[:-1])

    def distinct(self, log_probs, count):
        rows = [self._distinct(row.exp().tolist(), count) for row in log_probs.flatten(0, -2)]
        return torch.tensor(rows).view(*log_probs.shape[:-1], count)

    def _distinct(self, chances, count):
        codes = []
        for _ in range(count):
            left = [0.0 if code in codes else chance for code, chance in enumerate(chances)]
            if not any(left):  # those without mass come last
                return [*codes, *(code for code in range(len(chances)) if code not in codes)][:count]
            codes.append(self.script.choose([chance / sum(left) for chance in left]))
        return codes

    def _code(self, row, chances):
        total = sum(chances)
        if self.place[1]:
            return self.script.choose([chance / total for chance in chances])
        place = row, self.place[0]
        if place not in self.script.noise:
            self.script.noise[place] = self.script.choose([1 / self.parts] * self.parts)
        level, code = (self.script.noise[place] + 0.5) / self.parts * total, 0
        while level >= chances[code]:
            level, code = level - chances[code], code + 1
        return code


def _choose(verdict, codes, draws):
    """`Verdict.choose` by a script."""
    tokens, numbers = [], []
    rows = zip(*(x.flatten(0, 1).tolist() for x in (verdict.keep, verdict.rest, codes)), strict=True)
    for keep, rest, candidates in rows:
        chances, left = [], 1.0
        for chance in keep:
            chances, left = [*chances, left * chance], left * (1 - chance)
        total = sum(rest)
        choice = draws.script.choose([*chances, *(left * chance / total for chance in rest)])
        numbers.append(min(choice, len(keep)))
        tokens.append(candidates[choice] if choice < len(keep) else choice - len(keep))
    shape = codes.shape[:2]
    return torch.tensor(tokens).view(shape), torch.tensor(numbers).view(shape)


def _kept(verdict, draws):
    """`kept_of_block` by a script."""
    kept = []
    for keep in verdict.keep.tolist():
        chances, left = [], 1.0
        for chance in reversed(keep):
            chances, left = [*chances, left * chance], left * (1 - chance)
        kept.append(len(keep) - draws.script.choose([*chances, left]))
    return torch.tensor(kept)


def all_outcomes(program):
    """Law of what `program(script)` returns, over all outcomes of its random choices."""
    law, others = {}, [()]
    with patch.object(Verdict, "choose", _choose), patch.object(verification, "kept_of_block", _kept):
        while others:
            script = Script(others.pop(), others)
            result = program(script)
            law[result] = law.get(result, 0.0) + script.chance
    return law


def drawn_law(method, plan, laws, batch=1, **options):
    """Law of the canvases of a batch, drawn by a method of speculation from models with these laws."""
    model = model_of(plan, laws, options.pop("null", None))

    def program(script):
        run = begin(model, plan, Scripted(script, batch), **options)
        list(method.draw(model, run))
        return tuple(map(tuple, run.tokens.values.tolist()))

    return all_outcomes(program)


def of_row(canvases, row):
    """Law of one sample of a batch."""
    law = {}
    for rows, chance in canvases.items():
        law[rows[row]] = law.get(rows[row], 0.0) + chance
    return law


def chance_of(method, plan, laws, vocab, runs=60, rows=100):
    """Probability that canvases with the right law differ from it as much as those drawn do, by chi-square."""
    model, expected = model_of(plan, laws), law_of_canvas(plan, laws, vocab)
    counts = dict.fromkeys(expected, 0)
    for number in range(runs):
        run = begin(model, plan, Draws(range(rows * number, rows * (number + 1)), gumbel=True))
        list(method.draw(model, run))
        for canvas in run.tokens.values.tolist():
            counts[tuple(canvas)] += 1
    total = runs * rows
    chi = sum((counts[canvas] - total * p) ** 2 / (total * p) for canvas, p in expected.items())
    half = torch.tensor([len(expected) - 1, chi], dtype=torch.float64) / 2
    return float(torch.special.gammaincc(*half))


def same_noise():
    """Wrong: all numbers of a stream are those of its first call, so drafts and decisions share theirs."""
    uniform = Draws.uniform

    def again(self, *shape, **options):
        self._calls = 0
        return uniform(self, *shape, **options)

    return patch.object(Draws, "uniform", again)


def distance(first, second):
    """Total variation distance of two laws."""
    return sum(abs(first.get(key, 0.0) - second.get(key, 0.0)) for key in {*first, *second}) / 2
