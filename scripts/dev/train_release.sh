#!/usr/bin/env bash
# Render the data and train the weights in model/:
#     bash scripts/dev/train_release.sh [FOLDER OF VIDEOS [TEST SEQUENCES]]
# 120 demo scenes, 320 varied scenes at V_th 1 to 4 and, if a folder of videos is given, their data set. The closed form
# restores them, the restored sequences are re-simulated, and LDN is trained on these. BSN and EDSR are not needed.
# If it is stopped, the same command continues.
set -eu
videos=
if [ $# -gt 0 ]; then
    [ -d "$1" ] || { echo "error: $1: no such folder of videos" >&2; exit 2; }
    videos=$(cd "$1" && pwd)
    shift
fi
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" requirements.txt
data=data/release_resimulated sources=(data/release data/release_variety) run=log/deblur/release

"$PYTHON" scripts/make_demo.py --output data/demo
"$PYTHON" scripts/make_demo.py --output data/release --train 120 --test 0 --seed 11
"$PYTHON" scripts/make_demo.py --output data/release_variety --variety --train 320 --test 0 --seed 21 --threshold 1 4
if [ -n "$videos" ]; then
    "$PYTHON" scripts/make_gopro.py "$videos" --output data/release_videos --factor 24 --sequence \
        ${1:+--test_sequences "$@"}
    sources+=(data/release_videos)
fi
"$PYTHON" scripts/resimulate.py --base_folder "${sources[@]}" --output $data
mkdir -p $data
ln -sfn "$PWD/data/demo/test" $data/test

"$PYTHON" train_deblur.py --base_folder $data --exp_name release --roi_size 96 --bs 2 --epochs 64 --lr 6e-4 \
    --tea_loss ssim --augment --cache ram --workers 0 --teacher_cache $run/labels
weights=$run/checkpoints/LDN_0064.pth
for threshold in 2 4; do
    "$PYTHON" scripts/make_demo.py --output data/demo_$threshold --train 0 --threshold $threshold
done
"$PYTHON" scripts/tables.py --base_folder data/demo data/demo_2 data/demo_4 --deblur_path $weights \
    --output log/tables/release --cost_size 0
if [ $# -gt 0 ]; then
    "$PYTHON" scripts/tables.py --base_folder data/release_videos --deblur_path $weights \
        --output log/tables/release_videos --cost_size 0
fi
echo "trained: $weights. To use it by default, copy it to model/LDN.pth"
