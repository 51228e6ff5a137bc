#!/usr/bin/env bash
# waterz.agglomerate yields one segmentation for each threshold, and all of them are the array of fragments that was passed.
# Guess: `list(agglomerate(affinities, thresholds, fragments=fragments))` holds a segmentation for each threshold, and the
# fragments are as before.
# Matters to: choosing a threshold: all scores are those of the largest one, and fragments that are kept, written or agglomerated
# again are its segments.
source "$(dirname "$0")/environment.sh" waterz==0.10.1 numpy==2.4.6
python - > counts <<'PY'
import numpy as np
import waterz

fragments = np.arange(1, 17, dtype=np.uint64).reshape(1, 1, 16)
affinities = np.linspace(0, 1, 3 * 16, dtype=np.float32).reshape(3, 1, 1, 16)
thresholds = [0.05, 0.15, 0.25]
apart = [len(np.unique(s)) for s in waterz.agglomerate(affinities, thresholds, fragments=fragments.copy())]
given = fragments.copy()
listed = [len(np.unique(s)) for s in list(waterz.agglomerate(affinities, thresholds, fragments=given))]
print("\nresult segments one by one", apart, "in a list", listed, "fragments afterwards", len(np.unique(given)))
assert len(set(apart)) == 3
assert listed == [apart[-1]] * 3, "arrays of their own now"
assert len(np.unique(given)) == apart[-1], "fragments are kept now"
PY
sed -n 's/^result //p' counts
