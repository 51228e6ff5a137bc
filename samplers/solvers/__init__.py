"""Solvers that heads run inside a step of the plan."""
