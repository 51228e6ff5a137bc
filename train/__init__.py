"""Training: engine, objectives, recipes."""
