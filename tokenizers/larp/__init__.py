"""LARP: a clip as codes of learned queries, which NAR reads as a grid of 4 x 16 x 16 tokens.

"LARP: Tokenizing Videos with a Learned Autoregressive Generative Prior", 2024. Queries attend to the patches of the
whole clip, and their codes have no place in it. The autoregressive prior of its training is no part of it here.
"""
