#!/usr/bin/env bash
# Runs the tests, setting everything up first if needed. Options go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
install "[dev]"
python -m pytest -q "$@"
