"""Layers, losses and helpers that several tokenizers share."""
