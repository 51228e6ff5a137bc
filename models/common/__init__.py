"""Layers and functions that several families of backbones share."""
