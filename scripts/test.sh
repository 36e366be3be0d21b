#!/usr/bin/env bash
# Run the test suite:  bash scripts/test.sh [arguments of pytest]
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt
# Files of tests share what they prepare, so a file stays in one process.
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
