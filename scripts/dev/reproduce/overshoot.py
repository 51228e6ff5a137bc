"""Claim: pictures chosen by one verifier get worse in other eyes the harder one chooses; those of an ensemble do not.

    python scripts/dev/reproduce/overshoot.py
    python scripts/dev/reproduce/overshoot.py --num 3 --seeds 0 1 --samples 4

Draws many candidates per held-out caption, lets each verifier choose the best of the first N, and shows the chosen ones
to judges that look with another network. Candidates of N are the first ones of 2 N, so a column needs no new pictures,
and those of N = 1 are drawn without a search. One of the verifiers is bad on purpose, and a member of the ensemble too.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
import torch
from scorer import over_seeds
from searching import scores_of
from torch import Tensor

from arzoo import data as datasets
from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import weights_sha256
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import takes_text
from arzoo.metrics.agreement import different_captions
from arzoo.samplers.search.pool import alternatives
from arzoo.samplers.verifiers.base import Subject
from arzoo.samplers.verifiers.ensemble import ranks
from arzoo.viz.plots import Band, plot_bands

STEERING: dict[str, dict[str, Any]] = {"image_text": {}, "realism": {}, "sharpness": {}}
JUDGES: dict[str, dict[str, Any]] = {"class_probe": {}, "realism": {"net": "squeezenet", "seed": 1}}
"""Verifiers with their options; those that judge look with another network than those that steer."""
ENSEMBLE = "ensemble"


def candidates(model: Generator, prompt: str, count: int, seed: int, batch: int) -> Tensor:
    """Pictures (count, H, W, 3) that best-of-N would draw for a prompt, in its order."""
    seeds = alternatives(sample_seed(seed, 0), range(count))
    return model.generate(prompts=[prompt] * count, seeds=seeds, batch=batch).stills.cpu()


def chosen(steering: dict[str, Tensor], count: int) -> dict[str, int]:
    """Which of the first candidates each verifier chooses, and the ensemble of all by mean rank."""
    first = {name: scores[:count] for name, scores in steering.items()}
    first[ENSEMBLE] = -torch.stack([ranks(scores) for scores in first.values()]).mean(0)
    return {name: int(scores.argmax()) for name, scores in first.items()}


def summary(values: Tensor) -> dict[str, Any]:
    """Figures of judgments (seeds, counts) over the number of candidates.

    Returns:
        The mean over the seeds for every count, and its error; the place of the highest; and as differences of the same
        seed `gain`, from the first count to the last, and `fall`, from the highest to the last. The highest is chosen
        from the same figures, so the fall of a level curve is a little above 0.
    """
    points = [over_seeds(column.tolist()) for column in values.T]
    top = max(range(len(points)), key=lambda i: points[i][0])
    fall, error = over_seeds((values[:, top] - values[:, -1]).tolist())
    gain, gain_error = over_seeds((values[:, -1] - values[:, 0]).tolist())
    return {
        "values": [value for value, _ in points], "errors": [each for _, each in points], "highest": top,
        "fall": fall, "fall_error": error, "gain": gain, "gain_error": gain_error,
    }  # fmt: skip


def main() -> None:
    """Draw, choose, judge and write."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--model", default="nar_emoji64_text", help="draws captions (default: %(default)s)")
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.add_argument("--num", type=int, default=16, help="held-out captions (default: %(default)s)")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    options.add_argument("--samples", type=int, default=64, help="most candidates (default: %(default)s)")
    options.add_argument("--batch", type=int, default=32, help="pictures at once (default: %(default)s)")
    arguments = options.parse_args()
    if arguments.samples < 2:
        raise UsageError(
            f"--samples must be 2 or more, got {arguments.samples}: one candidate leaves no choice"
        )
    model = Generator.load(arguments.model)
    if not takes_text(model.backbone):
        raise UsageError(f"--model must draw captions, but {arguments.model} draws classes")
    held_out = datasets.load(arguments.data).split("validation")
    captions = held_out.select(different_captions(held_out, arguments.num, 0)).captions or ()
    counts = [2**i for i in range(arguments.samples.bit_length())]
    seeds, arms = arguments.seeds, [*STEERING, ENSEMBLE]
    judged = {arm: {judge: torch.zeros(len(seeds), len(counts)) for judge in JUDGES} for arm in arms}
    own = {arm: torch.zeros(len(seeds), len(counts)) for arm in STEERING}
    with progress("captions", "captions") as report:
        for s, seed in enumerate(seeds):
            for c, caption in enumerate(captions):
                images = candidates(model, caption, counts[-1], sample_seed(seed, c), arguments.batch)
                subject = Subject(prompt=caption)
                steering, judges = scores_of(STEERING, images, subject), scores_of(JUDGES, images, subject)
                for n, count in enumerate(counts):
                    for arm, row in chosen(steering, count).items():
                        for judge, scores in judges.items():
                            judged[arm][judge][s, n] += scores[row] / len(captions)
                        if arm in own:
                            own[arm][s, n] += steering[arm][row] / len(captions)
                report(s * len(captions) + c + 1, len(seeds) * len(captions))
    rows = {
        arm: {judge: summary(values) for judge, values in judged[arm].items()}
        | ({"own score": summary(own[arm])} if arm in own else {})
        for arm in arms
    }
    cells = [
        [arm, str(count), *(_cell(rows[arm].get(name), n) for name in ("own score", *JUDGES))]
        for arm in arms
        for n, count in enumerate(counts)
    ]
    claim.write(
        "overshoot", "Choosing harder by one verifier, or by several", ["chosen by", "of", "its own score", *JUDGES],
        cells, {"counts": counts, **rows}, pictures=len(captions) * counts[-1], seeds=seeds,
        protocol={
            "model": arguments.model, "weights": weights_sha256(model.backbone), "captions": list(captions),
            "data_sha256": held_out.sha256, "steering": STEERING, "judges": JUDGES,
        },
    )  # fmt: skip
    panels = {
        judge: {arm: Band(counts, rows[arm][judge]["values"], rows[arm][judge]["errors"]) for arm in arms}
        for judge in JUDGES
    }
    plot_bands(panels, claim.CLAIMS / "overshoot.png", "candidates")
    for arm in arms:
        for judge in JUDGES:
            row = rows[arm][judge]
            print(
                f"{arm}, judged by {judge}: gains {claim.with_error(row['gain'], row['gain_error'], 3)}, highest at "
                f"{counts[row['highest']]}, falls from there by {claim.with_error(row['fall'], row['fall_error'], 3)}"
            )


def _cell(row: dict[str, Any] | None, n: int) -> str:
    return claim.with_error(row["values"][n], row["errors"][n], 3) if row else "-"


if __name__ == "__main__":
    main()
