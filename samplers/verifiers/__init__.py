"""Verifiers: networks that score pictures which they did not draw."""
