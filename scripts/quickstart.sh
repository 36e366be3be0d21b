#!/usr/bin/env bash
# Render demo scenes, train the three stages and the default recipe on them, and compare; at most ten minutes:
#     bash scripts/quickstart.sh
#     bash scripts/quickstart.sh --pretrained    # no training: restore a scene with the weights in model/
# Published network sizes, short trainings. If it is stopped, the same command continues.
set -eu
usage() { echo "usage: bash scripts/quickstart.sh [--pretrained]" >&2; exit 2; }
[ $# -le 1 ] && { [ $# -eq 0 ] || [ "$1" = --pretrained ]; } || usage
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
exec "$PYTHON" scripts/quickstart.py "$@"
