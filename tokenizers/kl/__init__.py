"""KL tokenizers: a grid of vectors."""
