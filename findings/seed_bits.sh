#!/usr/bin/env bash
# A torch generator on a CPU uses the lower 32 bits of its seed, so seeds 2^32 apart draw the same numbers.
# Guess: `manual_seed` takes 64-bit seeds, as its range says, and other seeds give other numbers.
# Matters to: who makes seeds by hashing (name, number) into 64 bits, or as base + 2^32 * rank, and takes them for different.
source "$(dirname "$0")/environment.sh" torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch


def draw(seed):
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


same = {name: torch.equal(draw(7), draw(seed)) for name, seed in
        {"7 + 2^32": 7 + 2**32, "7 + 5 * 2^32": 7 + 5 * 2**32, "8": 8}.items()}
print("noise equal to that of seed 7:", same)
assert same == {"7 + 2^32": True, "7 + 5 * 2^32": True, "8": False}, "the upper bits count now"
PY
