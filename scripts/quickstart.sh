#!/usr/bin/env bash
# Draws pictures with a shipped model; sets everything up first if needed. Options are those of `arzoo generate`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
install "[drawings]" || {
    echo "the package index lacks one of the drawings' packages; shipped models draw without (docs/licences.md)" >&2
    install ""
}
if [ $# -eq 0 ]; then
    set -- --num 16 --seed 1 --out out/quickstart --overwrite
fi
arzoo generate "$@"
