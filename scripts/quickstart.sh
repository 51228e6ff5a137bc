#!/usr/bin/env bash
# Draws pictures with a shipped model; sets everything up first if needed. Options are those of `arzoo generate`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
# Where the packages of drawings could not be installed, arzoo was installed alone, and they are not tried again.
installed "" || install "[drawings]" || {
    echo "the packages of drawings could not be installed, see above; shipped models draw without (docs/licences.md)" >&2
    echo "to try again: $venv/bin/python -m pip install --editable '.[drawings]'" >&2
    install ""
}
if [ $# -eq 0 ]; then
    set -- --num 16 --seed 1 --out out/quickstart --overwrite
fi
arzoo generate "$@"
