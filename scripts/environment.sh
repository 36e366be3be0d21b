# Sourced by the other scripts: stand in the repository with a Python that has what FILE (first argument) asks for.
# The active environment is used if it has it already, else a .venv is made and filled.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

has() { "$1" scripts/has_requirements.py "$2" 2>/dev/null; }

if has python "$1"; then
    PYTHON=python
elif has python3 "$1"; then
    PYTHON=python3
else
    [ -x .venv/bin/python ] || python3 -m venv .venv || exit 1
    PYTHON=.venv/bin/python
    has "$PYTHON" "$1" || "$PYTHON" -m pip install -q --disable-pip-version-check -r "$1" || exit 1
fi
