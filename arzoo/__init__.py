"""arzoo: a model zoo for autoregressive visual generation."""

__version__ = "0.1.0"
