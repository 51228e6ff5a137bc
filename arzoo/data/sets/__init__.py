"""The built-in data sets, one a file: found by listing this folder."""
