"""KARL: as many tokens as a picture needs for a target error, in one pass.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025. The encoder takes the acceptable error as an
input and marks every latent slot as kept or halted; the kept slots, which may be any subset, are the tokens.
"""
