"""What every method of speculation must do: the law of the plain loop on tables, and its codes on networks."""

import torch
from contracts.cases import SEEDS, orders
from tables import distance, drawn_law, law_of_canvas, model_of, of_row, plan_of, random_laws

from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate


def toy(sizes, codes=2, seed=0, parts=None):
    """Plan, laws and another model of the same plan."""
    plan = plan_of(*sizes)
    return plan, random_laws(plan, codes, seed, parts), model_of(plan, random_laws(plan, codes, seed + 1))


def error(method, sizes, codes=2, seed=0, parts=None):
    """Distance of the law of a canvas from that of the plain loop; `method(other)` may draft with another model."""
    plan, laws, other = toy(sizes, codes, seed, parts)
    return distance(of_row(drawn_law(method(other), plan, laws), 0), law_of_canvas(plan, laws, codes))


def pairs(law):
    """Law of two samples that do not depend on each other."""
    return {(first, second): a * b for first, a in law.items() for second, b in law.items()}


def scattered(size):
    """(3, N) bool, some given positions, more of them in every row."""
    return torch.stack([order < 2 + 3 * row for row, order in enumerate(orders(size, 3, seed=4))])


def assert_likeliest_codes(method, one):
    """Greedy drawing takes the codes of the plain loop, with at most as many passes."""
    control = Control(greedy=True, guidance=schedules.over_steps(1.0, 3.0))
    for given in (None, scattered(one.spec.layout.size)):
        tokens = None if given is None else Tokens.of(one.example(), given)
        runs = [one.begin(tokens and tokens.copy(), control=control) for _ in range(2)]
        steps = len(list(generate(one.model, runs[0])))
        assert len(list(method.draw(one.model, runs[1]))) == steps
        assert torch.equal(runs[0].tokens.values, runs[1].tokens.values)
        assert bool(runs[1].tokens.known.all())
        assert runs[1].passes <= runs[0].passes


def assert_repeats_and_forks(method, one):
    """A seed repeats itself, another one draws something else, and a run can be forked between steps."""
    values = []
    for until in (None, None, 5):
        run = one.begin()
        for step in method.draw(one.model, run):
            if step.k + 1 == until:
                fork, known = run.select(torch.tensor([0, 2]), [8, 9]), run.tokens.known[[0, 2]]
                list(method.draw(one.model, fork))
                assert bool(fork.tokens.known.all())
                assert torch.equal(fork.tokens.values[known], run.tokens.values[[0, 2]][known])
        values.append(run.tokens.values)
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2]), "the run itself goes on"
    again = one.begin(seeds=[seed + 1 for seed in SEEDS])
    list(method.draw(one.model, again))
    assert not torch.equal(values[0], again.tokens.values)
