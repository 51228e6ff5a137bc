#!/usr/bin/env bash
# waterz's HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>, the score that papers on neurons name, is no
# median: its last parameter, InitWithMax, is true unless it is written out, and a pair of fragments begins with its highest
# affinity alone.
# Guess: the score of two fragments is the median of the affinities of their faces: 100 faces of 0.1 and one of 0.9 keep them
# apart.
# Matters to: thresholds and comparisons of agglomerations: one leak of a voxel in a membrane merges two neurons, at any size of
# the membrane, and a plain mean or median at the same threshold is another method.
source "$(dirname "$0")/environment.sh" waterz==0.10.1 numpy==2.4.6
python - > scores <<'PY'
import numpy as np
import waterz

fragments = np.ones((1, 101, 8), np.uint64)
fragments[..., 4:] = 2
affinities = np.ones((3, 1, 101, 8), np.float32)
affinities[2, 0, :, 4] = 0.1
affinities[2, 0, 50, 4] = 0.9


def score(options):
    function = f"OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256{options}>>"
    ((_, edges),) = waterz.agglomerate(affinities, [0.0], fragments=fragments.copy(), scoring_function=function,
                                       discretize_queue=256, return_region_graph=True)
    return 1 - edges[0]["score"]


print("\nresult", score(""), score(", false"))
PY
grep ^result scores | {
    read -r _ plain median
    echo "affinity of the pair: $plain; with the parameter false: $median"
    python -c "assert $plain > 0.89, 'a median now'; assert $median < 0.11"
}
