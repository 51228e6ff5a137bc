"""Visualisation: contact sheets."""
