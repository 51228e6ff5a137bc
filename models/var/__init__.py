"""VAR, "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction", 2024.

A pyramid of codes (`tokenizers.msvq`) is drawn level by level, all codes of a level in one call: the input of a level
is the sum of the coarser ones, averaged down to its size.
"""
