"""Visualization: contact sheets and rankings."""
