"""Frozen vision networks for metrics, perceptual losses and verifiers."""
