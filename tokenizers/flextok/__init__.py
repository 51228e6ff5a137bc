"""FlexTok: pictures as an ordered sequence of codes, any prefix of which decodes to a picture.

"FlexTok: Resampling Images into 1D Token Sequences of Flexible Length", 2025. Registers read the picture under a causal
mask, finite scalar quantization turns them into codes, and a rectified flow draws the picture from the first 1 to N.
"""
