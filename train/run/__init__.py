"""A training run on disk: state, lineage, log, report, health and interrupts."""
