#!/usr/bin/env bash
# Checks that every floor of the library imports only floors below it (the contract is in pyproject.toml).
# Works on an installed copy: there the links arzoo/models -> ../models and so on are folders.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"
site="$(mktemp -d)"
trap 'rm -rf "$site" "$root/build"' EXIT # the working folder is another one at the end
python -m pip install --quiet --disable-pip-version-check --no-deps --target "$site" . >&2
touch "$site/arzoo/tokenizers/__init__.py" # the checker skips folders without it; the checkout must not have it
cd "$site" # the checker looks into the working folder first
PYTHONPATH="$site" lint-imports "$root/pyproject.toml"
