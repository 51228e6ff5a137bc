"""Frozen vision networks that metrics, perceptual losses and verifiers share."""
