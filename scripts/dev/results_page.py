"""Write docs/results.md from docs/results.json, the output of `scripts/dev/results.py`, and the claims in docs/claims.

    python scripts/dev/results_page.py

A claim consists of NAME.json, written by a script in `scripts/dev/reproduce`, and NAME.md, the conclusion, without
which the page is not written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.card import markdown_table
from arzoo.checkpoints.index import read_metrics
from arzoo.checkpoints.names import BUNDLED
from arzoo.models.vision.features import feature_net

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLAIMS = DOCS / "claims"
ELSEWHERE = "_validation"
"""Suffix of the names of figures against the validation pictures, which are not part of the protocol of samples."""
SPREAD = ("precision_k3", "recall_k3", "density_k5", "coverage_k5", "is")
GENERATORS = [
    "model", "parameters", "hours", "loss of", "validation loss", "train loss", "network calls", "head calls",
    "s / picture, 1 thread", "2 threads",
]  # fmt: skip
TOKENIZERS = ["tokenizer", "parameters", "hours", "PSNR", "SSIM", "perceptual"]
CLIPS = ("nar_atari", "nbp_atari")
OF_CLIPS = {
    "fvd_clip_probe": 2, "kvd_clip_probe": 4, "precision_k5_clip_probe": 3, "coverage_k5_clip_probe": 3,
}  # fmt: skip
"""Figures of generators of clips, and their digits."""
TEXT = (Path(__file__).parent / "results_page.txt").read_text()


def distances(scores: dict[str, Any]) -> list[str]:
    """Cells of one row of distances."""
    net = feature_net().name
    cells = [shown(scores[f"fd_{net}"], 1)]
    return cells + [shown(scores[f"kid_{net}{suffix}"], 1, 1000) for suffix in ("", ELSEWHERE)]


def shown(figure: dict[str, Any], digits: int, times: float = 1) -> str:
    """A figure with its standard error."""
    return f"{figure['value'] * times:.{digits}f} ± {figure['error'] * times:.{digits}f}"


def rebuilt_cells(figures: dict[str, Any], net: str) -> list[str]:
    """Cells of one tokenizer; those of the codebook are empty if it has none."""
    perceptual = next(figure for name, figure in figures.items() if name.startswith("perceptual"))
    cells = [
        shown(figures["psnr"], 2),
        shown(figures["ssim"], 3),
        shown(perceptual, 2),
        shown(figures[f"rfd_{net}"], 1),
    ]
    codebook = ("codes_used", "codebook_perplexity")
    return cells + [f"{figures[name]['value']:g}" if name in figures else "" for name in codebook]


def generators(results: dict[str, Any]) -> str:
    """Table of losses and cost of all generators."""
    return markdown_table(GENERATORS, [
        [k, f"{v['parameters'] / 1e6:.2f}M", v["training_hours"], v["loss_of"],
         f"{v['validation_loss']:.3f} ± {v['validation_loss_error']:.3f}", f"{v['train_loss']:.3f}",
         v["network_calls"], v["head_calls"], v["seconds_per_picture_1_thread"], v["seconds_per_picture_2_threads"]]
        for k, v in results.items()
    ])  # fmt: skip


def clips() -> str:
    """Table of generators of clips, from the figures in their checkpoints."""
    rows = []
    for name in CLIPS:
        stored = {key.partition("@")[0]: figure for key, figure in read_metrics(BUNDLED / name).items()}
        rows.append([name, *(shown(stored[figure], digits) for figure, digits in OF_CLIPS.items())])
    return markdown_table(["model", *OF_CLIPS], rows)


def claims() -> str:
    """One section per claim: conclusion, table, and command.

    Raises:
        ArzooError: A claim has no conclusion.
    """
    sections = []
    for path in sorted(CLAIMS.glob("*.json")):
        claim, conclusion = json.loads(path.read_text()), path.with_suffix(".md")
        if not conclusion.exists() or not conclusion.read_text().strip():
            raise ArzooError(
                f"{path.name} has no conclusion. Look at its figures and write into {conclusion}, in a few sentences, "
                "what holds and what does not."
            )
        seeds = f" per seed, seeds {', '.join(map(str, claim['seeds']))}" if claim["seeds"] else ""
        sections += [
            f"### {claim['title']}",
            conclusion.read_text().strip(),
            markdown_table(claim["head"], claim["cells"]),
            f"`{claim['command']}`: {claim['n']} {claim.get('noun', 'pictures')}{seeds}; {claim['hardware']}.",
        ]
    return "\n\n".join(sections)


def markdown(results: dict[str, Any]) -> str:
    """Format the results as a page."""
    net, protocol = feature_net().name, results["protocol"]
    far = [["real training pictures", *distances(results["real pictures"])]]
    far += [[f"reconstructions by {k}", *distances(v["floor"])] for k, v in results["tokenizers"].items()]
    far += [[f"samples of {k}", *distances(v["samples"])] for k, v in results["generators"].items()]
    copied = {"held-out pictures": results["held-out pictures"]}
    copied |= {f"samples of {k}": v["samples"] for k, v in results["generators"].items()}
    near = [[name, shown(scores[f"nearest_{net}"], 4)] for name, scores in copied.items()]
    spread = [
        [k, *(shown(v["samples"][f"{name}_{net}"], 3) for name in SPREAD)]
        for k, v in results["generators"].items()
    ]
    rebuilt = [
        [k, f"{v['parameters'] / 1e6:.2f}M", v["training_hours"], *rebuilt_cells(v["validation"], net)]
        for k, v in results["tokenizers"].items()
    ]
    return TEXT.format(
        net=net,
        generators=generators(results["generators"]),
        distances=markdown_table(
            ["pictures", f"fd_{net}", "KID x 1000, train", "KID x 1000, validation"], far
        ),
        near=markdown_table(["pictures", "distance"], near),
        spread=markdown_table(["model", *(name.replace("_", " ") for name in SPREAD)], spread),
        tokenizers=markdown_table([*TOKENIZERS, f"rfd_{net}", "codes used", "perplexity"], rebuilt),
        clips=clips(),
        claims=claims(),
        protocol=markdown_table(["what", "value"], protocol.items()),
        hardware=results["hardware"],
        versions=", ".join(f"{k} {v}" for k, v in results["versions"].items() if v),
    )


def main() -> None:
    """Write the page."""
    results = json.loads((DOCS / "results.json").read_text())
    (DOCS / "results.md").write_text(markdown(results))
    print(f"wrote {DOCS / 'results.md'}")


if __name__ == "__main__":
    main()
