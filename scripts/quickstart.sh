#!/usr/bin/env bash
# Render demo scenes, train the three stages on them, and restore a test scene:
#     bash scripts/quickstart.sh
#     bash scripts/quickstart.sh --pretrained    # no training: restore a scene with the weights in model/
# Published network sizes, short trainings. If it is stopped, the same command continues.
set -eu
usage() { echo "usage: bash scripts/quickstart.sh [--pretrained]" >&2; exit 2; }
[ $# -le 1 ] && { [ $# -eq 0 ] || [ "$1" = --pretrained ]; } || usage
pretrained=${1:-}
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
scene=chelsea-000/000019

if [ -n "$pretrained" ]; then
    data=data/demo_one out=log/pretrained
    "$PYTHON" scripts/make_demo.py --output $data --train 0 --test 1
    "$PYTHON" scripts/deblur.py $data/test/blur_data/$scene.png $data/test/spike_data/$scene.dat --frames 25 --compare \
        --force --out $out --video $out/sequence.gif
    echo "pictures and video: $out"
    exit
fi

# bfloat16 is faster on CPUs with AMX, and on AMD processors with AVX512_BF16; elsewhere float32 is. On a GPU the training
# scripts choose by themselves.
precision=auto
if "$PYTHON" -c 'import torch; raise SystemExit(torch.cuda.is_available())' &&
    awk '/AuthenticAMD/ {amd = 1} /amx_bf16/ || amd && /avx512_bf16/ {fast = 1} END {exit !fast}' /proc/cpuinfo 2>/dev/null
then
    precision=bf16
fi

demo=data/demo runs=log
common="--base_folder $demo --save_folder $runs --exp_name quickstart --precision $precision --evaluate_every 1000"
bsn=$runs/bsn/quickstart/checkpoints/BSN_0004.pth sr=$runs/sr/quickstart/checkpoints/SR_0012.pth
run=$runs/deblur/quickstart
ldn=$run/checkpoints/LDN_0045.pth

"$PYTHON" scripts/make_demo.py --output $demo
# Small batches: a short training gains more from many steps than from large ones.
# shellcheck disable=SC2086  # several flags
"$PYTHON" train_bsn.py $common --roi_size 256 --bs 1 --epochs 4 --lr 1e-3
# shellcheck disable=SC2086
"$PYTHON" train_sr.py $common --roi_size 256 --bs 1 --epochs 12
# A BSN trained for minutes is worse than its masked centre pixel: --center_weight averages the two. Labels are computed
# once, for whole pictures.
# shellcheck disable=SC2086
"$PYTHON" train_deblur.py $common --recipe published --roi_size 128 --bs 2 --epochs 45 --tea_loss ssim \
    --center_weight 0.6 --teacher_cache $run/labels --bsn_path $bsn --sr_path $sr
"$PYTHON" scripts/deblur.py $demo/test/blur_data/$scene.png $demo/test/spike_data/$scene.dat --compare --force \
    --deblur_path $ldn --out $run/sequence --video $run/sequence.gif
"$PYTHON" scripts/figures.py $run --better_by 2
