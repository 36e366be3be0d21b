#!/usr/bin/env bash
# Run the test suite:  bash scripts/test.sh [arguments of pytest]
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt
exec "$PYTHON" -m pytest "$@"
