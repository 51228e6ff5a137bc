"""Copy the figures of `arzoo evaluate NAME --out FOLDER` into the metrics.json of a shipped checkpoint.

    arzoo evaluate nar_atari --num 288 --batch 12 --out out/nar_atari
    python scripts/dev/record_figures.py nar_atari out/nar_atari
    python scripts/dev/results_page.py

`arzoo evaluate` leaves what comes with the package as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import BUNDLED
from arzoo.checkpoints.provenance import stale
from arzoo.metrics.record import EVALUATION, record


def main() -> None:
    """Copy the figures, if they are of these weights.

    Raises:
        ArzooError: They are of others.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="shipped model")
    parser.add_argument("folder", type=Path, help="folder of its evaluation")
    arguments = parser.parse_args()
    checkpoint = open_checkpoint(BUNDLED / arguments.name)
    document = json.loads((arguments.folder / EVALUATION).read_text(encoding="utf-8"))
    doubt = stale(document, checkpoint.index)
    if doubt or document["subject"] != arguments.name:
        raise ArzooError(f"{arguments.folder} is of {document['subject']}: {doubt or 'another model'}")
    record(checkpoint, document)


if __name__ == "__main__":
    main()
