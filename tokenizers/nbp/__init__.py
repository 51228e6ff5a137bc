"""NBP's tokenizer: clips as a grid of codes, through a causal three-dimensional convolutional network.

"Next Block Prediction: Video Generation via Semi-Autoregressive Modeling", 2025: a network like MAGVIT-v2's with finite
scalar quantization. The first frame has tokens of its own, so pictures are clips of one frame, and what is encoded of
a clip does not depend on the frames that follow.
"""
