#!/usr/bin/env bash
# From the GOPRO videos to the tables of the paper, with the published settings:
#     bash scripts/reproduce.sh GOPRO_Large_all [GOPRO] [number of processes that make data]
# If it is stopped, the same command continues: finished samples, trainings and evaluations stay.
# LDN is trained at each V_th, with the BSN and EDSR of V_th 1.
set -eu
usage="usage: bash scripts/reproduce.sh GOPRO_Large_all [GOPRO] [processes]"
if [ $# -lt 1 ] || [ $# -gt 3 ]; then
    echo "$usage" >&2
    exit 2
fi
[ -d "$1" ] || { echo "error: $1: no such folder; $usage" >&2; exit 2; }
raw=$(cd "$1" && pwd) data=${2:-GOPRO} processes=${3:-$(getconf _NPROCESSORS_ONLN)}
[ $# -lt 2 ] || [ "${data#/}" != "$data" ] || data=$PWD/$data
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt

"$PYTHON" scripts/make_gopro.py "$raw" --output "$data" --threshold 1 2 4 --sequence --workers "$processes"

first=$data/threshold_1
"$PYTHON" train_bsn.py --base_folder "$first" --exp_name reproduce --evaluate_every 100
"$PYTHON" train_sr.py --base_folder "$first" --exp_name reproduce
bsn=log/bsn/reproduce/checkpoints/BSN_1001.pth sr=log/sr/reproduce/checkpoints/SR_0101.pth ldn=()
for threshold in 1 2 4; do
    run=reproduce_$threshold
    "$PYTHON" train_deblur.py --base_folder "$data/threshold_$threshold" --exp_name $run --recipe published \
        --bsn_path $bsn --sr_path $sr
    ldn+=("log/deblur/$run/checkpoints/LDN_0101.pth")
    "$PYTHON" scripts/figures.py log/deblur/$run
done
"$PYTHON" scripts/tables.py --base_folder "$data" --bsn_path $bsn --sr_path $sr --deblur_path "${ldn[@]}"
