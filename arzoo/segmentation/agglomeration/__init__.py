"""Ways to put fragments together to cells, a file each.

A registered `agglomeration` is a function of affinities (3, Z, Y, X) float32 in [0, 1], fragments (Z, Y, X) int64,
numbered from 1 on in the order of their first voxels, and a threshold. It returns segments (Z, Y, X) int64 with numbers
of any kind, in which 0 stays 0 and touches nothing, and leaves its arguments as they are. Fragments are put together at
affinities above the threshold: at 0 all that touch with an affinity above 0, at 1 none. `arzoo.segmentation.segments`
calls it by name.
"""
