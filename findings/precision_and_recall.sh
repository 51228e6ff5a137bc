#!/usr/bin/env bash
# scikit-image's adapted_rand_error returns (error, recall, precision), not (error, precision, recall) as documented.
# Guess: everything in one segment has recall 1, as its documentation defines it: the pairs of pixels with the same label in both
# pictures, divided by those of the true one.
# Matters to: tables of segmentations: networks that merge cells look precise. The error is right with equal weights; `alpha` weighs
# the other one, too.
source "$(dirname "$0")/environment.sh" scikit-image==0.26.0 numpy==2.4.6
python - <<'PY'
import numpy as np
from skimage.metrics import adapted_rand_error

true, merged = np.repeat(np.arange(1, 11), 10), np.ones(100, int)
error, precision, recall = adapted_rand_error(true, merged)
same = (true[:, None] == true) & (merged[:, None] == merged) & ~np.eye(100, dtype=bool)
of_true, of_merged = ((x[:, None] == x).sum() - 100 for x in (true, merged))
print(f"ten cells in one segment: it says precision {precision:.3f}, recall {recall:.3f};")
print(f"by its documentation precision {same.sum() / of_merged:.3f}, recall {same.sum() / of_true:.3f}")
assert (precision, recall) == (same.sum() / of_true, same.sum() / of_merged), "they are in order now"
assert recall < 0.1 < precision
PY
