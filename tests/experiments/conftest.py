"""Makes the experiments importable as they import each other."""

import pathlib
import sys

EXPERIMENTS = pathlib.Path(__file__).parent.parent.parent / "experiments"
sys.path[:0] = [str(EXPERIMENTS), str(pathlib.Path(__file__).parent)]
