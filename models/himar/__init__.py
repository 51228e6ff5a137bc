"""Hi-MAR: masked autoregression over a coarse grid of vectors, the pivots, and then over the dense one."""
