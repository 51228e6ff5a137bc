"""LongCat-Next's visual tokenizer: pictures of any size as a grid of positions, each with several residual codes.

"LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026 (dNaViT): a transformer on packed patches with rotary
positions and windows, four patches merged into a token, residual quantization, and a transformer back to pixels.
"""
