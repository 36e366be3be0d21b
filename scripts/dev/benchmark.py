"""Measure the speed of one part of the project, next to a reference rate of the same machine.

    python scripts/dev/benchmark.py data FRAMES            # make_gopro.py, against cv2.imread of its frames
    python scripts/dev/benchmark.py interpolation FOLDER   # quality of interpolated frames, against simpler methods
    python scripts/dev/benchmark.py metrics                # metrics of one output, against reading its sample
    python scripts/dev/benchmark.py load                   # samples of each stage, against cv2.imread of their pictures
    python scripts/dev/benchmark.py train                  # steps of each stage, against plain PyTorch
    python scripts/dev/benchmark.py eval                   # metrics a second, against copying the pictures
    python scripts/dev/benchmark.py infer                  # LDN at 720p, against matrix products
    python scripts/dev/benchmark.py recipes                # steps and sequences of each recipe
    python scripts/dev/benchmark.py growth growth.svg      # time and memory of steps and data sets of increasing size

`python scripts/dev/benchmark.py MEASURE --help` lists the options of a measure.
"""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from codes.cli import program

MEASURES = ("data", "interpolation", "metrics", "load", "train", "eval", "infer", "recipes", "growth")

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        sys.exit(print(__doc__))
    if name not in MEASURES:
        print(f"error: {name}: unknown measure; accepted: {', '.join(MEASURES)}", file=sys.stderr)
        sys.exit(2)
    measure = import_module(f"scripts.dev.benchmarks.{name}")
    program(measure.main, measure.Options, measure.__doc__)
