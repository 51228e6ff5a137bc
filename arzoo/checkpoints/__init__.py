"""Checkpoints: folders on disk, the names they are found under, cards, archives and the hub."""
