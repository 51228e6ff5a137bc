"""Verifiers that look with frozen networks, and how verifiers are opened by name."""
