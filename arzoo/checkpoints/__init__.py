"""Checkpoints: folders on disk, their names, cards, archives and the hub."""
