#!/usr/bin/env bash
# Make the data and train the weights in model/ from nothing:
#     bash scripts/train_release.sh [FOLDER OF FILMS]
# 240 demo scenes, a third each at V_th 1, 2 and 4, and, if a folder of films is given, what make_gopro.py makes of it.
# Stopped, it goes on where it was. LDN alone is trained: the recipe "rates" needs neither BSN nor EDSR.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
films=${1:-} data=data/release

"$PYTHON" scripts/make_demo.py --output data/demo
for threshold in 1 2 4; do
    "$PYTHON" scripts/make_demo.py --output data/release_$threshold --train 80 --test 0 --threshold $threshold \
        --seed $((10 + threshold))
done
[ -z "$films" ] || "$PYTHON" scripts/make_gopro.py "$films" --output data/release_films --factor 24

# One set of links: the scenes of each threshold under names of their own.
for kind in blur_data sharp_data spike_data; do
    mkdir -p $data/train/$kind
    for threshold in 1 2 4; do
        for scene in data/release_$threshold/train/$kind/*; do
            ln -sfn "$PWD/$scene" "$data/train/$kind/v$threshold-$(basename "$scene")"
        done
    done
    for sequence in data/release_films/train/$kind/*; do
        [ ! -d "$sequence" ] || ln -sfn "$PWD/$sequence" "$data/train/$kind/$(basename "$sequence")"
    done
done
ln -sfn "$PWD/data/demo/test" $data/test

common="--base_folder $data --recipe rates --roi_size 128 --bs 2 --tea_loss ssim --augment --evaluate_every 10"
common="$common --teacher_cache log/deblur/release/labels"
"$PYTHON" train_deblur.py $common --exp_name release --epochs 50
"$PYTHON" train_deblur.py $common --exp_name release_2 --epochs 40 --lr 6e-4 --seed 1 \
    --deblur_path log/deblur/release/checkpoints/LDN_0050.pth
weights=log/deblur/release_2/checkpoints/LDN_0040.pth
"$PYTHON" scripts/tables.py --base_folder data/demo --deblur_path $weights --output log/tables/release
echo "trained: $weights. To use it everywhere, copy it to model/LDN.pth"
