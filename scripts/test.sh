#!/usr/bin/env bash
# Runs the tests; sets everything up first if needed. Options are those of pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
install "[dev]"
# One process per core with one thread each is faster than one process with all threads. A process takes up to 3 GB.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
python -m pytest -q -n logical --maxprocesses 4 "$@"
