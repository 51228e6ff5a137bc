"""MaskGIT: a masked transformer over few codes, in the form that TiTok's generators have.

"MaskGIT: Masked Generative Image Transformer", 2022; "An Image is Worth 32 Tokens for Reconstruction and Generation"
(TiTok), 2024. The order is the plan `confident`, or `masked`.
"""
