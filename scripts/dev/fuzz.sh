#!/usr/bin/env bash
# Look for inputs that break a promise, for longer than the test suite does:
#     bash scripts/dev/fuzz.sh [--minutes 30]
# Every round draws new inputs. Ends with the number of inputs, or with the first that broke something.
set -u
minutes=30
[ "${1:-}" = --minutes ] && minutes=${2:?minutes}
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" requirements-dev.txt
export FUZZ=long
end=$((SECONDS + 60 * minutes)) inputs=0
while [ $SECONDS -lt $end ]; do
    seed=$RANDOM$RANDOM
    told=$(timeout --foreground $((end - SECONDS + 60)) "$PYTHON" -m pytest -q -x -p no:cacheprovider \
        tests/test_properties.py --hypothesis-seed="$seed" --hypothesis-show-statistics 2>&1)
    code=$?
    inputs=$((inputs + $(grep -oE '[0-9]+ passing' <<<"$told" | awk '{n += $1} END {print n + 0}')))
    if [ $code -ne 0 ] && [ $code -ne 124 ]; then
        echo "$told"
        echo "found by --hypothesis-seed=$seed after $inputs inputs"
        exit 1
    fi
    echo "$((SECONDS / 60)) minutes, $inputs inputs"
done
