"""Layers and helpers that several families of backbones share."""
