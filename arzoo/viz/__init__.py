"""Visualisation: contact sheets and rankings."""
