"""Segmentation of volumes: windows, fragments, and cells put together from them."""
