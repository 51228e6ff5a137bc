"""VQ tokenizers: a grid of codes."""
