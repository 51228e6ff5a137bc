"""Heads: distributions over tokens, given the features of a backbone."""
