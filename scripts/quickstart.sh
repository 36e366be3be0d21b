#!/usr/bin/env bash
# From nothing to sharp pictures: render demo scenes, train the three stages on them, show what came out.
#     bash scripts/quickstart.sh
# Published network sizes, short runs. Stopped, it goes on where it was when it is called again.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt

# bfloat16 halves the time on processors that have it; a GPU needs neither that nor patience.
precision=fp32
grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && precision=bf16

demo=data/demo
common="--base_folder $demo --exp_name quickstart --precision $precision --evaluate_every 1000"
weights() { ls log/"$1"/quickstart/checkpoints/"$2"_*.pth | tail -n 1; }

"$PYTHON" scripts/make_demo.py --output $demo
"$PYTHON" train_bsn.py $common --roi_size 256 --epochs 8
"$PYTHON" train_sr.py $common --roi_size 256 --epochs 25
# Labels are computed once, for whole pictures; then the student alone is what a step costs.
"$PYTHON" train_deblur.py $common --roi_size 128 --epochs 80 --tea_loss ssim --teacher_cache log/deblur/quickstart/labels \
    --bsn_path "$(weights bsn BSN)" --sr_path "$(weights sr SR)"
"$PYTHON" scripts/show_run.py log/deblur/quickstart --base_folder $demo --better_by 2
