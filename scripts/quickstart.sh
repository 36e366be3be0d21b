#!/usr/bin/env bash
# From nothing to sharp pictures: render demo scenes, train the three stages on them, show what came out.
#     bash scripts/quickstart.sh
#     bash scripts/quickstart.sh --pretrained    # no training: restore a demo scene with the weights in model/
# Published network sizes, short runs. Stopped, it goes on where it was when it is called again.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt

if [ "${1:-}" = --pretrained ]; then
    scene=data/demo_one out=log/pretrained
    "$PYTHON" scripts/make_demo.py --output $scene --train 0 --test 1
    "$PYTHON" scripts/deblur.py $scene/test/blur_data $scene/test/spike_data --frames 25 --compare --force \
        --out $out --video sequence.gif
    echo "pictures and film: $(ls $out/*/*/sequence.gif)"
    exit
fi

# bfloat16 nearly halves the time on AMD processors that have it; on Intel's it takes longer than float32 unless they have
# units for matrices (AMX). Where there is a GPU the scripts choose for themselves.
precision=auto
"$PYTHON" -c 'import torch; raise SystemExit(torch.cuda.is_available())' &&
    awk '/AuthenticAMD/ {amd = 1} /amx_bf16/ || amd && /avx512_bf16/ {fast = 1} END {exit !fast}' /proc/cpuinfo 2>/dev/null &&
    precision=bf16

demo=data/demo
common="--base_folder $demo --exp_name quickstart --precision $precision --evaluate_every 1000"
weights() { ls log/"$1"/quickstart/checkpoints/"$2"_*.pth | tail -n 1; }

"$PYTHON" scripts/make_demo.py --output $demo
# Small batches: in a short training many steps teach more than large ones.
"$PYTHON" train_bsn.py $common --roi_size 256 --bs 1 --epochs 4 --lr 1e-3
"$PYTHON" train_sr.py $common --roi_size 256 --bs 1 --epochs 12
# A BSN of minutes knows less than the pixel that it may not see: the teacher keeps a share of it. Labels are computed
# once, for whole pictures; then the student alone is what a step costs.
"$PYTHON" train_deblur.py $common --roi_size 128 --bs 2 --epochs 45 --tea_loss ssim --center_weight 0.6 \
    --teacher_cache log/deblur/quickstart/labels --bsn_path "$(weights bsn BSN)" --sr_path "$(weights sr SR)"
run=log/deblur/quickstart scene=$(cd $demo/test/blur_data && ls -d ./*/*.png | head -n 1)
"$PYTHON" scripts/deblur.py "$demo/test/blur_data/$scene" "$demo/test/spike_data/${scene%.png}.dat" --compare --force \
    --deblur_path "$(weights deblur LDN)" --out $run/sequence --video $run/sequence.gif
"$PYTHON" scripts/figures.py $run --better_by 2
