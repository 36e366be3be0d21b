#!/usr/bin/env bash
# The whole road from the GOPRO videos to the paper's tables, with the published settings:
#     bash scripts/reproduce.sh GOPRO_Large_all [GOPRO] [processes that make data]
# Stopped anywhere, the same command goes on where it was: samples, training and evaluations that are there stay.
# LDN is trained at each V_th; BSN and SR at V_th 1 teach them all.
set -eu
raw=$(realpath "${1:?usage: bash scripts/reproduce.sh GOPRO_Large_all [GOPRO] [processes]}")
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
data=${2:-GOPRO} processes=${3:-$(nproc)}
newest() { ls log/"$1"/"$2"/checkpoints/"$3"_*.pth | tail -n 1; }

"$PYTHON" scripts/make_gopro.py "$raw" --output "$data" --threshold 1 2 4 --sequence --workers "$processes"

first=$data/threshold_1
"$PYTHON" train_bsn.py --base_folder "$first" --exp_name reproduce --evaluate_every 100
"$PYTHON" train_sr.py --base_folder "$first" --exp_name reproduce
bsn=$(newest bsn reproduce BSN) sr=$(newest sr reproduce SR) ldn=()
for threshold in 1 2 4; do
    run=reproduce_$threshold
    "$PYTHON" train_deblur.py --base_folder "$data/threshold_$threshold" --exp_name $run --bsn_path "$bsn" --sr_path "$sr"
    ldn+=("$(newest deblur $run LDN)")
    "$PYTHON" scripts/figures.py log/deblur/$run
done
"$PYTHON" scripts/tables.py --base_folder "$data" --bsn_path "$bsn" --sr_path "$sr" --deblur_path "${ldn[@]}"
