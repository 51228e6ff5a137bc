"""Rewrite shipped checkpoints with another number of bits per weight; index, record and figures stay.

    python scripts/dev/requantize.py --bits 8                # all of them, tokenizers first
    python scripts/dev/requantize.py --bits 16 vq_emoji64    # one

A generator stores the hash of its tokenizer's weights, which is updated in all shipped generators. Precision lost with
8 bits cannot be restored, so to go from 8 bits to 16 start from the weights of training (or an older commit). The
figures were measured with the previous weights: measure again with scripts/dev/results.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from arzoo.base.weights import Bits
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.checkpoints.names import BUNDLED, bundled
from arzoo.checkpoints.store import folder_bytes

OWN = {"format", "kind", "arzoo", "commit", "torch", "parts", "base", "training", "seal"}
"""Keys of an index that `save_parts` writes itself."""


def rewrite(folder: Path, bits: Bits, tokenizers: dict[str, str]) -> dict[str, str]:
    """Rewrite a checkpoint in place.

    Args:
        folder: The checkpoint.
        bits: See `arzoo.base.weights.to_storage`.
        tokenizers: Hashes of the weights of tokenizers by name, for the generators that use them.

    Returns:
        Hashes of its weights by part.
    """
    checkpoint, parts = load_parts(folder)
    facts = {key: value for key, value in checkpoint.index.items() if key not in OWN}
    name = facts.get("tokenizer", {}).get("name")
    if name in tokenizers:
        facts["tokenizer"] = {**facts["tokenizer"], "sha256": tokenizers[name]}
    names = {part: stored["name"] for part, stored in checkpoint.parts.items() if stored.get("name")}
    written = save_parts(
        folder, checkpoint.kind, parts, names=names, bits=bits, overwrite=True,
        metrics=checkpoint.metrics, record=checkpoint.index.get("training"), **facts,
    )  # fmt: skip
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return {part: stored["weights"] for part, stored in written.parts.items()}


def main() -> None:
    """Rewrite tokenizers, then generators."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="checkpoints; all shipped ones by default")
    parser.add_argument("--bits", type=int, choices=(8, 16, 32), default=8, help="default: %(default)s")
    arguments = parser.parse_args()
    names, tokenizers = arguments.names or bundled(), {}
    for name in bundled("tokenizer"):
        if name in names:
            before = folder_bytes(BUNDLED / name)
            tokenizers[name] = rewrite(BUNDLED / name, arguments.bits, {})["tokenizer"]
            print(json.dumps({"name": name, "before": before, "bytes": folder_bytes(BUNDLED / name)}))
    for name in bundled("generator"):
        if name in names:
            before = folder_bytes(BUNDLED / name)
            rewrite(BUNDLED / name, arguments.bits, tokenizers)
            print(json.dumps({"name": name, "before": before, "bytes": folder_bytes(BUNDLED / name)}))


if __name__ == "__main__":
    main()
