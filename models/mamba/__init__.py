"""Mamba: state-space layers in place of attention, whose memory of what was read is constant in length.

"Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023; "Transformers are SSMs: Generalized Models and
Efficient Algorithms Through Structured State Space Duality" (Mamba-2), 2024; "Scalable Autoregressive Image Generation
with Mamba" (AiM), 2024, which draws codes of LlamaGen's tokenizer in raster order with Mamba-2 and adaLN of the class.
"""
