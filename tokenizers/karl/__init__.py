"""KARL: as many tokens as a picture needs for a wanted error, found in one pass.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025. An encoder is told the error that is
acceptable and marks every latent slot as kept or halted; the kept ones, any subset of the slots, are the tokens.
"""
