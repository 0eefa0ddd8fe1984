"""Benchmarks through lmms-eval, and the synthetic world of the pocket profile.

`BENCHMARKS` holds the benchmarks by name; docs/extending.md adds one.
"""

from benchmarks.base import Benchmark
from benchmarks.llava_w import LLAVA_W
from benchmarks.mmbench import MMBENCH
from benchmarks.pope import POPE, POPE_AUC
from benchmarks.seed import SEEDBENCH, SEEDBENCH_PPL
from c3l.runtime.plugins import Registry

BENCHMARKS: Registry[Benchmark] = Registry(
    "c3l.benchmarks",
    {
        "seedbench": SEEDBENCH,
        "seedbench_ppl": SEEDBENCH_PPL,
        "pope": POPE,
        "pope_auc": POPE_AUC,
        "mmbench": MMBENCH,
        "llava_w": LLAVA_W,
    },
)
"""What a profile can name under `scoring.tasks`."""
