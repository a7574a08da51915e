"""Run every benchmark and print its figure; lines are ready for LOG.md.

python -m benchmarks            all of them
python -m benchmarks sweep      one
"""

from __future__ import annotations

import importlib
import os
import sys

# One core: the figures are stated per core, and a second thread on a busy machine makes them worse.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ALL = ("sweep", "pricing", "answer", "throughput", "archc")


def main() -> None:
    """Run the named benchmarks, or all."""
    for name in sys.argv[1:] or ALL:
        for line in importlib.import_module(f"benchmarks.{name}").run():
            print(line, flush=True)


main()
