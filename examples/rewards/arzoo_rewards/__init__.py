"""Published reward models as verifiers of arzoo."""
