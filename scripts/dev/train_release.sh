#!/usr/bin/env bash
# Make the data and train the weights in model/ from nothing:
#     bash scripts/dev/train_release.sh [FOLDER OF FILMS [SEQUENCES THAT ARE HELD OUT]]
# 120 demo scenes, 320 of more variety at V_th 1 to 4 and, if a folder of films is given, what make_gopro.py makes of it;
# the teacher restores them, what it restored is filmed again (recipe "fused"), and LDN learns from that. Neither BSN nor
# EDSR is needed.
# Stopped, it goes on where it was.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" requirements.txt
films=${1:-} held_out=("${@:2}") data=data/release_refilmed sources="data/release data/release_variety"

"$PYTHON" scripts/make_demo.py --output data/demo
"$PYTHON" scripts/make_demo.py --output data/release --train 120 --test 0 --seed 11
"$PYTHON" scripts/make_demo.py --output data/release_variety --variety --train 320 --test 0 --seed 21 --threshold 1 4
if [ -n "$films" ]; then
    "$PYTHON" scripts/make_gopro.py "$films" --output data/release_films --factor 24 --sequence \
        ${held_out[@]:+--test_sequences "${held_out[@]}"}
    sources="$sources data/release_films"
fi
# shellcheck disable=SC2086  # several folders
"$PYTHON" scripts/resimulate.py --base_folder $sources --output $data
ln -sfn "$PWD/data/demo/test" $data/test

"$PYTHON" train_deblur.py --base_folder $data --exp_name release --roi_size 96 --bs 2 --epochs 64 --lr 6e-4 \
    --tea_loss ssim --augment --cache ram --workers 0 --teacher_cache log/deblur/release/labels
weights=log/deblur/release/checkpoints/LDN_0064.pth
for threshold in 2 4; do
    "$PYTHON" scripts/make_demo.py --output data/demo_$threshold --train 0 --threshold $threshold
done
"$PYTHON" scripts/tables.py --base_folder data/demo data/demo_2 data/demo_4 --deblur_path $weights \
    --output log/tables/release --cost_size 0
if [ -n "${held_out[0]:-}" ]; then
    "$PYTHON" scripts/tables.py --base_folder data/release_films --deblur_path $weights \
        --output log/tables/release_films --cost_size 0
fi
echo "trained: $weights. To use it everywhere, copy it to model/LDN.pth"
