"""Backbones, heads and their parts."""
