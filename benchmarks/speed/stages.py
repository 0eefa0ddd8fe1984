"""The time and memory of single stages on the CPU, at a shape between the pocket's and LLaVA's.

`repro.checks.bench` sets these measurements beside the estimates of `repro.estimate.cost`.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.speed.growth import memory, reset_peak

MODEL = "middle, 144 image tokens"
NEW = 48
"""Tokens written behind each prompt."""
EACH = 8
"""Samples an image."""
STEP = 4
"""Samples of one training step; there are two steps."""


@dataclass(frozen=True)
class StageRun:
    """The work, time and memory of one stage, run once in its own process."""

    kind: str
    rows: int
    """Texts that were written, scored or trained on."""
    tokens: float
    """Mean of a text, without its image and its output."""
    predicted: float
    """Mean of tokens with a loss or a score."""
    seconds: float
    """CPU seconds, in one thread."""
    peak: float
    """Peak resident memory, MiB."""
    before: float
    """Resident memory after imports, before the model was made, MiB."""


KINDS = ("captions", "pairs", "scores", "vlit", "vlit, lora", "vlit, checkpointing")


def measure_stages(kinds: tuple[str, ...] = KINDS, model: str = MODEL) -> list[StageRun]:
    """Measure each kind of stage. Only on Linux: memory is read from /proc."""
    command = [sys.executable, "-m", "benchmarks.speed.stages"]
    return [
        StageRun(**json.loads(subprocess.check_output([*command, kind, model]))) for kind in kinds
    ]


def run_stage(kind: str, model: str) -> StageRun:
    """Run a stage of this kind in this process and one thread."""
    import torch
    from transformers import Trainer  # noqa: F401  so that `before` includes its imports

    from benchmarks.speed import scoring
    from benchmarks.speed.model import make_model
    from c3l.relevance import score
    from c3l.samples import ImageFolder
    from c3l.settings import TrainingSettings

    torch.set_num_threads(1)
    reset_peak()
    before = memory("VmRSS")
    backbone = make_model(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = scoring.workload(folder, 1 if kind == "scores" else 8, samples_per_image=EACH)
        images = ImageFolder(folder)
        samples = load.samples if kind == "scores" else load.samples[::EACH]
        questions, answers = [s.question for s in samples], [s.answer for s in samples]

        pictures = [images[s.image] for s in samples] if kind == "captions" else None

        def writes() -> object:
            return backbone.generate_with_status(
                questions, pictures, max_new_tokens=NEW, batch_size=8
            )

        def scores() -> object:
            return score(backbone, samples, images, batch_size=EACH)

        def trains() -> object:
            from c3l.readings import Readings
            from c3l.training import tune

            tuning = "lora" if "lora" in kind else "language+projector"
            settings = TrainingSettings(
                batch_size=STEP, gradient_checkpointing="checkpointing" in kind, save_steps=1000
            )
            return tune(
                backbone, samples, images, settings, Readings(tuning=tuning), 0, folder / "out"
            )

        batch = backbone.encode(questions, None, answers)
        if kind in ("captions", "pairs"):
            tokens = backbone.encode(questions)["attention_mask"].sum(1).float().mean().item()
            predicted, work = 0.0, writes
        else:
            tokens = batch["attention_mask"].sum(1).float().mean().item()
            predicted = batch["answer_mask"].sum().item() / len(samples)
            work = scores if kind == "scores" else trains
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    return StageRun(kind, len(samples), tokens, predicted, seconds, memory("VmHWM"), before)


if __name__ == "__main__":
    print(json.dumps(asdict(run_stage(*sys.argv[1:3]))))
