"""Measure what each step beyond the published recipe adds, one change at a time.

    python scripts/dev/ablation.py closed_form --base_folder data/demo                  # nothing is trained
    python scripts/dev/ablation.py real --streams one.dat other.dat                     # beside one.png and other.png
    python scripts/dev/ablation.py denoise --base_folder data/demo --bsn_path BSN.pth   # trained on ISI intensity
    python scripts/dev/ablation.py train --base_folder data/demo --resimulated data/resimulated \\
        --test_folder data/demo data/demo_4 --bsn_path BSN.pth --sr_path SR.pth --steps 1000

`python scripts/dev/ablation.py PART --help` lists the options of a part.
"""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from codes.cli import program

PARTS = ("closed_form", "real", "denoise", "train")
FORMER = {"light": "closed_form"}

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        sys.exit(print(__doc__))
    name = FORMER.get(name, name)
    if name not in PARTS:
        print(f"error: {name}: unknown part; accepted: {', '.join(PARTS)}", file=sys.stderr)
        sys.exit(2)
    part = import_module(f"scripts.dev.ablations.{name}")
    program(part.main, part.Options, part.__doc__)
