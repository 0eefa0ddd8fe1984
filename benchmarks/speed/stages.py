"""The time and memory of single stages on the CPU, at a shape between the pocket's and LLaVA's.

`repro.checks.bench` sets these measurements beside the estimates of `repro.estimate.cost`.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.speed.growth import memory, start_of_peak

MODEL = "middle, 144 image tokens"
NEW = 48
"""Tokens written behind each prompt."""
EACH = 8
"""Samples an image."""
STEP = 4
"""Samples behind one step of training, of which there are two."""


@dataclass(frozen=True)
class Run:
    """One stage, run once in a process of its own: how much it did and what that took."""

    kind: str
    rows: int
    """Texts written, scored or learnt from."""
    tokens: float
    """Of a text without its image and what it writes, the mean."""
    predicted: float
    """Of these, those with a loss or a score."""
    seconds: float
    """Of the process, in one thread."""
    peak: float
    """The most resident memory, MiB."""
    before: float
    """What was resident with everything imported, before the model was made, MiB."""


KINDS = ("captions", "pairs", "scores", "vlit", "vlit, lora", "vlit, checkpointing")


def measure(kinds: tuple[str, ...] = KINDS, model: str = MODEL) -> list[Run]:
    """Each kind of stage. Linux alone: memory is read from /proc."""
    runs = []
    for kind in kinds:
        command = [sys.executable, "-m", "benchmarks.speed.stages", kind, model]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(Run(**json.loads(done.stdout)))
    return runs


def run(kind: str, model: str) -> Run:
    """A stage of this kind, in this process and one thread."""
    import torch
    from transformers import Trainer  # noqa: F401  what training imports counts as before

    from benchmarks.speed import scoring
    from benchmarks.speed.model import make
    from c3l.relevance import score
    from c3l.samples import ImageFolder
    from c3l.settings import TrainingSettings

    torch.set_num_threads(1)
    start_of_peak()
    before = memory("VmRSS")
    backbone = make(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = scoring.workload(folder, 1 if kind == "scores" else 8, samples_per_image=EACH)
        images = ImageFolder(folder)
        samples = load.samples if kind == "scores" else load.samples[::EACH]
        questions, answers = [s.question for s in samples], [s.answer for s in samples]

        def writes(pictured: bool) -> Callable[[], object]:
            shown = [images[s.image] for s in samples] if pictured else None
            return lambda: backbone.generate_with_status(
                questions, shown, max_new_tokens=NEW, batch_size=8
            )

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
            predicted, work = 0.0, writes(kind == "captions")
        else:
            tokens = batch["attention_mask"].sum(1).float().mean().item()
            predicted = batch["answer_mask"].sum().item() / len(samples)
            work = trains
            if kind == "scores":
                work = lambda: score(backbone, samples, images, batch_size=EACH)  # noqa: E731
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    return Run(kind, len(samples), tokens, predicted, seconds, memory("VmHWM"), before)


if __name__ == "__main__":
    print(json.dumps(asdict(run(*sys.argv[1:3]))))
