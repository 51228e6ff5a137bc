"""LongCat-Next's language model in small: text and the codes of pictures of any size in one sequence, one objective.

"LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026 (DiNA). The network runs once per position of the
picture, and the head `depth` draws the position's codes. The order is the plan `newlines`. The published network, of 68
billion parameters, is not part of arzoo.
"""
