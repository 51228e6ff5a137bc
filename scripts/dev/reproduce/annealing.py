"""Claim: fewer head steps late in a picture cost little quality ("DiSA: Diffusion Step Annealing", 2025).

    python scripts/dev/reproduce/annealing.py mar_emoji64 xar_emoji64

Draws the same pictures with constant and with annealed numbers of head steps, and writes distance, calls and CPU
seconds of each. Diffusion always starts at timestep 950: from 999, the long first step of a small number of steps
diverges.
"""

from __future__ import annotations

from dataclasses import replace

from scorer import Scorer, parser, shown, write

from arzoo.cli.knobs import CLIP
from arzoo.generation.generator import Generator
from arzoo.samplers.schedules import anneal

STEPS = {f"{n}": n for n in (50, 25, 10, 5)}
STEPS |= {f"50 to 5, {shape}": anneal(50, 5, shape) for shape in ("linear", "cosine", "two-stage")}


def main() -> None:
    """Draw, score and write."""
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="checkpoints whose heads run a solver")
    arguments = options.parse_args()
    scorer = Scorer("emoji64", arguments.num, arguments.seeds, arguments.precision)
    for name in arguments.models:
        model, rows, cells = Generator.load(name), {}, []
        own = model.control
        for label, steps in STEPS.items():
            model.control = replace(own, head_steps=steps, max_timestep=CLIP)
            row = rows[label] = scorer.score(name, model)
            cells.append([label, *shown(row)])
            print(name, *cells[-1], flush=True)
        title = f"Fewer head steps late in a picture: {name}"
        write(f"annealing_{name}", title, scorer, rows, ["head steps"], cells)


if __name__ == "__main__":
    main()
