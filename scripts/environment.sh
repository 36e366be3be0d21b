# Sourced by the other scripts: change to the repository and set PYTHON to one that meets FILE, the first argument.
# Uses the active environment if it does, else makes and fills .venv.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

meets() { "$1" scripts/has_requirements.py "$2" 2>/dev/null; }

if meets python "$1"; then
    PYTHON=python
elif meets python3 "$1"; then
    PYTHON=python3
else
    [ -x .venv/bin/python ] || python3 -m venv .venv || exit 1
    PYTHON=.venv/bin/python
    meets "$PYTHON" "$1" || "$PYTHON" -m pip install -q --disable-pip-version-check -r "$1" || exit 1
fi
