#!/usr/bin/env bash
# Run the whole test suite:  bash scripts/test.sh [arguments of pytest]
set -u
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt
exec "$PYTHON" -m pytest "$@"
