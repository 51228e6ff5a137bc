"""Built-in data sets, one per file; the registry lists this folder."""
