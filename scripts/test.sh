#!/usr/bin/env bash
# Runs the tests; sets everything up first if needed. Options are those of pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
install "[dev]"
python -m pytest -q "$@"
