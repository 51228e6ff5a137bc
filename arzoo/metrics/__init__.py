"""Distances between sets of pictures, reconstruction quality, memorisation; every score carries its protocol."""
