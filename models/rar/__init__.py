"""RAR: a decoder-only transformer trained in random orders that end as raster order.

"Randomized Autoregressive Visual Generation", 2024. Inputs know which position they predict, so one network learns all
orders; it samples in raster order, the plan `raster`.
"""
