"""The benchmarks by name: which of lmms-eval's tasks each is, and which of its metrics counts.

Only data: lmms-eval takes ten seconds to import. docs/extending.md adds a benchmark.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskSource:
    """Where lmms-eval keeps a task, which of its metrics is the paper's, and how we name it."""

    yaml: str
    """Below lmms-eval's folder of tasks; an absolute path for a task of one's own."""
    key: str
    metric: str
    scale: float = 1.0
    """From lmms-eval's number to ours, 0 to 100."""
    seed_images_only: bool = False


TASKS = {
    "seedbench": TaskSource(
        "seedbench/seedbench.yaml", "seed_image", "seed_image", 100, seed_images_only=True
    ),
    "seedbench_ppl": TaskSource(
        "seedbench/seedbench_ppl.yaml",
        "acc",
        "seed_image by likelihood (seedbench_ppl)",
        100,
        seed_images_only=True,
    ),
    "pope": TaskSource(
        "pope/pope.yaml", "pope_f1_score", "mean F1 over random, popular, adversarial", 100
    ),
    "mmbench": TaskSource(
        "mmbench/mmbench_en_dev_static.yaml",
        "gpt_eval_score",
        "gpt_eval_score (mmbench_en_dev_static: options matched without a judge)",
    ),
    "llava_w": TaskSource(
        "llava-in-the-wild/llava-in-the-wild.yaml", "gpt_eval_llava_all", "gpt_eval_llava_all"
    ),
}

SHIPPED = frozenset(TASKS)
"""Whose tables and metrics are this project's own."""
