# Sourced by the other scripts: changes to the root of the repository and puts a virtual environment on PATH, which is
# created if it is missing. ARZOO_VENV chooses the folder (default .venv), PYTHON the interpreter (default python3).

cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${ARZOO_VENV:-.venv}"

if [ ! -x "$venv/bin/python" ]; then
    python="${PYTHON:-python3}"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "Python 3.10 or later is needed; choose one with PYTHON=/path/to/python $0" >&2
        exit 1
    }
    echo "creating the virtual environment $venv" >&2
    "$python" -m venv "$venv" || "$python" -m virtualenv "$venv" || {
        echo "cannot create a virtual environment: install the venv module (Debian: apt-get install python3-venv)" >&2
        exit 1
    }
fi
PATH="$(cd "$venv/bin" && pwd):$PATH"
export PATH

# installed EXTRAS: whether `install` has installed them since pyproject.toml changed.
installed() {
    [ -e "$venv/.arzoo$1" ] && [ ! pyproject.toml -nt "$venv/.arzoo$1" ]
}

# install EXTRAS: installs the checkout in place with the given extras ("" or "[dev]"), once per pyproject.toml.
install() {
    installed "$1" && return
    echo "installing arzoo$1 into $venv, mostly PyTorch with its GPU libraries (README: Install)" >&2
    local bar=off
    [ -t 2 ] && bar=on  # elsewhere pip writes a line for every package that it fetches
    python -m pip install --progress-bar "$bar" --disable-pip-version-check --editable ".$1" >&2 || return
    touch "$venv/.arzoo$1"
}
