#!/usr/bin/env bash
# python-elf's stacked_watershed gives a slice that is boundary everywhere the number of the last fragment of the slice before.
# Guess: without a pixel inside of a cell a slice is 0, or fragments of its own. Its watershed does return 0, and then the number
# of fragments so far is added to all of it, which is the last of them. It warns of a division.
# Matters to: missing and damaged sections, which networks predict as boundary: a whole slice joins one cell before anything was
# agglomerated, and touches every cell on both sides.
source "$(dirname "$0")/environment.sh" python-elf==0.9.2 bioimage-cpp==0.10.0 scikit-image==0.26.0 numpy==2.4.6
python -W ignore - <<'PY'
import numpy as np
from elf.segmentation.watershed import distance_transform_watershed, stacked_watershed

boundary = np.zeros((3, 64, 64), np.float32)
boundary[:, :, 31:33] = 1  # two cells
boundary[1] = 1
alone, _ = distance_transform_watershed(boundary[1], threshold=0.25, sigma_seeds=2.0)
parts, _ = stacked_watershed(boundary, threshold=0.25, sigma_seeds=2.0, n_threads=1)
numbers = [np.unique(part).tolist() for part in parts]
print("the slice alone:", np.unique(alone).tolist(), "in its stack:", numbers)
assert np.unique(alone).tolist() == [0]
assert numbers[0] == [1, 2]
assert numbers[1] == [2], "it is no fragment of the slice before now"
PY
