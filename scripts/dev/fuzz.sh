#!/usr/bin/env bash
# Run the property tests on new random inputs for longer than the test suite does:
#     bash scripts/dev/fuzz.sh [--minutes 30]
# Prints the number of inputs, or the first failure and its seed.
set -eu
minutes=30
if [ $# -eq 2 ] && [ "$1" = --minutes ]; then
    minutes=$2
elif [ $# -gt 0 ]; then
    echo "usage: bash scripts/dev/fuzz.sh [--minutes 30]" >&2
    exit 2
fi
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" requirements-dev.txt
export FUZZ=long
end=$((SECONDS + 60 * minutes)) inputs=0
while [ $SECONDS -lt $end ]; do
    seed=$RANDOM$RANDOM code=0
    output=$(timeout --foreground $((end - SECONDS + 60)) "$PYTHON" -m pytest -q -x -p no:cacheprovider \
        tests/test_properties.py --hypothesis-seed="$seed" --hypothesis-show-statistics 2>&1) || code=$?
    inputs=$((inputs + $(grep -oE '[0-9]+ passing' <<<"$output" | awk '{n += $1} END {print n + 0}')))
    if [ $code -ne 0 ] && [ $code -ne 124 ]; then
        echo "$output"
        echo "failed with --hypothesis-seed=$seed after $inputs inputs"
        exit 1
    fi
    echo "$((SECONDS / 60)) minutes, $inputs inputs"
done
