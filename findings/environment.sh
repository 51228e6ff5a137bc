# Sourced by the findings with their pinned packages: puts a Python that has them first on PATH, in a temporary folder that
# is removed at the end. FINDINGS_PYTHON names an interpreter to use instead; it must have these versions.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_PYTHON:-}" ]; then
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$(realpath -s "$FINDINGS_PYTHON")" > "$folder/bin/python"
    chmod +x "$folder/bin/python"
else
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
fi
export PATH="$folder/bin:$PATH" HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 TMPDIR="$folder"
cd "$folder"
python - "$@" <<'PY'
import sys
from importlib.metadata import version

for pin in sys.argv[1:]:
    name, wanted = pin.split("==")
    if version(name) != wanted:
        sys.exit(f"{name} {version(name)} is here, this finding is about {wanted}")
    print(pin)
PY
