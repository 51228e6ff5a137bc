"""Distances between sets of pictures, reconstruction quality, memorization; every score carries its protocol."""
