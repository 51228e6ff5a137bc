"""Verifiers: scores of pictures by networks that did not draw them."""
