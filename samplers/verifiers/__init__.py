"""Verifiers: scores of pictures or tokens, which they did not draw, for a search or a judgment."""
