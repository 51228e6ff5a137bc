"""Copy a trained model into the package, with a card that describes its training.

    python scripts/dev/ship.py runs/nar_emoji64 nar_emoji64
    python scripts/dev/ship.py runs/stage2 nar_emoji64 --recipe nar_emoji64_stage2 --init runs/nar_emoji64

If a run started from another one (`init` in its recipe), the record also describes that one and those before it. A
generator gets the sampling knobs of the current recipe, because they are chosen after training. Weights are stored in 8
bits, so figures of the run are not those of the shipped weights: measure again with scripts/dev/results.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from requantize import OWN

from arzoo.base.config import load_yaml
from arzoo.checkpoints.folder import Checkpoint, open_checkpoint, save_parts
from arzoo.checkpoints.store import folder_bytes
from arzoo.data import load
from arzoo.data.volume_sets import parts_sha256, training_parts
from arzoo.samplers.schedules import control_to_data
from arzoo.train.generator import sampling
from arzoo.train.recipe import load_recipe

TARGET = Path(__file__).resolve().parents[2] / "arzoo" / "pretrained"


def _lineage(checkpoint: Checkpoint) -> dict[str, Any]:
    """Facts about the training of a checkpoint."""
    training = checkpoint.index["training"]
    known = ("command", "seed", "steps", "hours", "hardware", "init")
    facts = {key: training[key] for key in known if key in training}
    main = "tokenizer" if checkpoint.kind == "tokenizer" else "backbone"
    return {**facts, "weights": checkpoint.parts[main]["weights"]}


def _data_sha256(recipe: dict[str, Any]) -> str:
    """Hash of the data of a run."""
    if recipe["task"] == "segmenter":
        return parts_sha256(training_parts(recipe["data"], recipe["segmenter"]["volumes"])[0])
    return load(recipe["data"]).sha256


def main() -> None:
    """Copy the checkpoint of a run, with weights in fewer bits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("name", help="name of the shipped model")
    parser.add_argument("--recipe", help="shipped recipe with its sampling knobs (default: of its name)")
    parser.add_argument("--command", help="how it was trained (default: as recorded, or arzoo train NAME)")
    parser.add_argument("--init", type=Path, help="the run or checkpoint it started from")
    parser.add_argument(
        "--bits", type=int, choices=(8, 16, 32), default=8, help="bits per weight (default: %(default)s)"
    )
    arguments = parser.parse_args()
    checkpoint = open_checkpoint(arguments.run / "checkpoint")
    recipe = load_yaml(arguments.run / "recipe.yaml")
    record = {
        "command": f"arzoo train {arguments.name}",
        "data_sha256": _data_sha256(recipe),
        **checkpoint.index["training"],
        "recipe": recipe,
        **({"command": arguments.command} if arguments.command else {}),
    }
    if arguments.init:
        record["init"] = _lineage(open_checkpoint(arguments.init))
    # The record must not contain local paths.
    record = json.loads(json.dumps(record).replace(f"{arguments.run.resolve().parent}/", "runs/"))
    facts = {key: value for key, value in checkpoint.index.items() if key not in OWN}
    if "controls" in facts:
        settings = load_recipe(arguments.recipe or arguments.name).generator
        knobs = sampling(settings, bool(facts["spec"]["vocab"]))
        facts["controls"] = control_to_data(knobs)
    parts = {part: checkpoint.load(part) for part in checkpoint.parts}
    folder = TARGET / arguments.name
    written = save_parts(
        folder,
        checkpoint.kind,
        parts,
        bits=arguments.bits,
        overwrite=True,
        metrics=checkpoint.metrics,
        record=record,
        **facts,
    )
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shipped = {"folder": str(folder), "bytes": folder_bytes(folder), "parts": written.parts}
    print(json.dumps(shipped, indent=2))


if __name__ == "__main__":
    main()
