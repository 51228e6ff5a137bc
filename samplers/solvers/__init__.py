"""Solvers for heads that draw a token in several steps: pure functions of a prediction, noise and `Settings`."""
