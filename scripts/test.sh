#!/usr/bin/env bash
# Run the test suite:  bash scripts/test.sh [arguments of pytest]
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt
# Two processes of one thread each: more threads would wait for each other. A file shares what its tests prepare.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
