"""Multi-scale VQ tokenizers: a pyramid of codes, coarse to fine, whose levels add up (VAR)."""
