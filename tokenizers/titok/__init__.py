"""TiTok and One-D-Piece: a picture as 32 to 256 codes or vectors without a grid.

"An Image is Worth 32 Tokens for Reconstruction and Generation", 2024; "One-D-Piece: Image Tokenizer Meets
Quality-Controllable Compression", 2025, which drops tokens from the tail so that prefixes decode to pictures.
"""
