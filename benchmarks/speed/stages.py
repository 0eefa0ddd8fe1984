"""The time and memory of stages on the CPU, each run in a process and one thread of its own.

`repro.checks.bench` sets single stages of a shape between the pocket's and LLaVA's beside the
estimates of `repro.estimate.cost`, and fits a line to scoring more and more samples.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from c3l.runtime.errors import UserError

MODEL = "middle, 144 image tokens"
POCKET = "pocket"
KINDS = ("captions", "pairs", "scores", "vlit", "vlit, lora", "vlit, checkpointing")
NEW = 48
"""Tokens written behind each prompt."""
STEP = 4
"""Samples of one training step."""
SAMPLES_PER_IMAGE = 15  # three instruction classes of five, as METHOD's initial data


@dataclass(frozen=True)
class StageRun:
    """The work, time and memory of one stage."""

    kind: str
    rows: int
    """Texts that were written, scored or trained on."""
    tokens: float
    """Mean of a text, without its image and what is written."""
    wall: float
    process: float
    """CPU seconds, as `wall`."""
    peak: float
    """Peak resident memory, MiB."""
    before: float
    """Resident memory after imports, before the model was made, MiB."""


def measure(kind: str, model: str = MODEL, rows: int = 8) -> StageRun:
    """Run a stage in a process of its own: Python does not return memory.

    Raises UserError where there is no /proc to read the memory from.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise UserError("The memory of a run is read from /proc, which only Linux has; use Linux.")
    command = [sys.executable, "-m", "benchmarks.speed.stages", kind, model, str(rows)]
    return StageRun(**json.loads(subprocess.check_output(command)))


def run_stage(kind: str, model: str, rows: int) -> StageRun:
    """Run a stage on so many texts in this process: "scores" of a few images, else one each."""
    import torch
    from transformers import Trainer  # noqa: F401  so that `before` includes its imports

    from benchmarks.speed import scoring
    from benchmarks.speed.model import POCKET_MODEL, make_model
    from c3l.backbones import load_backbone
    from c3l.readings import Readings
    from c3l.relevance import score
    from c3l.samples import ImageFolder
    from c3l.settings import TrainingSettings
    from c3l.training import tune

    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now the resident memory
    before = _memory("VmRSS")
    pocket = model == POCKET
    backbone = load_backbone(POCKET_MODEL, device="cpu") if pocket else make_model(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = SAMPLES_PER_IMAGE if kind == "scores" else 1
        lengths = "the pocket world's" if pocket else "the paper's"
        load = scoring.workload(folder, -(-rows // each), each, lengths=lengths)
        images, samples = ImageFolder(folder), load.samples[:rows]
        writes = kind in ("captions", "pairs")
        tokens = scoring.mean_tokens(backbone, samples[:99], answers=not writes)
        wall, process = time.perf_counter(), time.process_time()
        if writes:
            pictures = [images[s.image] for s in samples] if kind == "captions" else None
            questions = [s.question for s in samples]
            backbone.generate_with_status(questions, pictures, max_new_tokens=NEW, batch_size=rows)
        elif kind == "scores":
            score(backbone, samples, images, batch_size=8)
        else:
            tuning = "lora" if "lora" in kind else "language+projector"
            settings = TrainingSettings(
                batch_size=STEP, gradient_checkpointing="checkpointing" in kind, save_steps=1000
            )
            readings = Readings(tuning=tuning)
            tune(backbone, samples, images, settings, readings, 0, folder / "out")
        seconds = time.perf_counter() - wall, time.process_time() - process
    return StageRun(kind, rows, tokens, *seconds, _memory("VmHWM"), before)


def _memory(field: str) -> float:
    """A field of /proc/self/status in MiB: VmRSS is resident memory, VmHWM its peak.

    Not `resource`: its peak outlives exec, and would be the parent's where that was larger.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    print(json.dumps(asdict(run_stage(*sys.argv[1:3], int(sys.argv[3])))))
