"""Work of the pipeline's stages, for `repro.estimate.cost`, from their configuration alone.

Every text counts as long as the profile lets it be, and every configured pair as written, which
overestimates. Other lengths are the constants below.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from benchmarks import BENCHMARKS
from benchmarks.base import parquet_rows
from c3l.artifacts.store import Source, Stage
from c3l.instructions import CLASSES
from c3l.runtime.errors import UserError
from c3l.samples import read_records
from c3l.settings import TrainingSettings
from repro import paper
from repro.estimate import cost
from repro.estimate.cost import Cost, Shape, TrainingMode
from repro.estimate.devices import CPU, GIB, Device
from repro.rows import PUBLISHED

# Tokens, at 1.3 for a word: the paper's table 2 has 23.4 words in a question and 12.8 in an answer.
QUESTION, ANSWER = 31, 17
# The prompt format and an instruction; a benchmark's question with its options.
PROMPT, ASKED = 60, 100
OPTION = 4  # tokens of an option whose likelihood is compared
# For `relative_cost`: the pocket world's LLaVA-7B, and a core of an ordinary machine.
SMALL = Shape(448_416, 28_928, 853_120, 106_624, 4, 128, 128, 9, 10, tied=True)
CORE = CPU("an ordinary core", 4 * GIB, 1e11, 1e10)
MODEL = ("backbone", "generator", "weights")
"""Names of a stage's input that is a model."""


def weights_of(stage: Stage) -> Source | None:
    """Return the weights that a stage's model was made from, if it has a model."""
    source = next((stage.inputs[name] for name in MODEL if name in stage.inputs), None)
    return weights_of(source) if isinstance(source, Stage) else source


def count_samples(stage: Stage) -> int:
    """Count the samples of a stage if it yields all that are configured."""
    if stage.name == "comparison":
        turns = _turns(stage.inputs["data"].path) if "data" in stage.inputs else 0
        return turns or _published()[stage.config["name"]]
    if size := stage.config.get("size"):
        return size
    each = len(CLASSES) * stage.config.get("pairs_per_class", 0)
    if each:
        return each * count_images(stage) * (2 if stage.name == "vigc" else 1)
    return count_samples(stage.inputs["samples"])


def count_images(stage: Stage) -> int:
    """Count the images that a stage's samples are about."""
    if count := stage.config.get("images"):
        return count
    for name in ("captions", "samples"):
        if name in stage.inputs:
            return count_images(stage.inputs[name])
    return max(1, count_samples(stage) // 5)  # published data have about five turns an image


@cache
def _turns(folder: Path) -> int:
    """Samples of a published data set; 0 where the folder is missing."""
    return sum(len(record) for path in folder.glob("*") for record in read_records(path))


@cache
def _published() -> dict[str, int]:
    """Instances of published data by the paper's table 2; each has one turn or more."""
    table = paper.load()["table2"]
    return {name: int(table.cell(label, "instances")) for label, name in PUBLISHED.items()}


def count_questions(stage: Stage) -> int:
    """Count a benchmark's questions, from its files where they exist."""
    try:
        rows = parquet_rows(stage.inputs["data"].path)
    except UserError:
        rows = 0
    return rows or BENCHMARKS[stage.config["task"]].rows


def training_mode(stage: Stage) -> TrainingMode | None:
    """Return the mode in which a stage trains, or None."""
    if stage.name not in ("generator", "vlit"):
        return None
    settings = TrainingSettings(**stage.config["settings"])
    return TrainingMode(stage.config["readings"]["tuning"], settings.gradient_checkpointing)


def relative_cost(stage: Stage) -> float:
    """Return a stage's work, to compare with that of others of its name; 1.0 without a model.

    It is the seconds of a small model on one core, whatever the stage's own model is: no model is
    read, so that nothing large is imported.
    """
    small = cost_of(stage, SMALL, CORE)
    return small.seconds if small else 1.0


def bytes_on_disk(stage: Stage, s: Shape | None, on: Device) -> float:
    """Bytes that a stage writes: all weights of a model, in the precision it is loaded in."""
    match stage.name:
        case "generator" | "vlit":
            return s.parameters * on.size if s else 0.0
        case "scores":
            return count_samples(stage) * ANSWER * 3 * 4
        case "evaluation":
            return count_questions(stage) * 1000  # an answer with its prompt
        case "initial" | "filtered" | "final" | "vigc" | "comparison" | "cut":
            return count_samples(stage) * 400
    return 0.0


def cost_of(stage: Stage, s: Shape, on: Device, mode: TrainingMode | None = None) -> Cost | None:
    """Return a stage's cost with a model of this shape, or None where no model runs.

    `mode` replaces the stage's own training mode.
    """
    if mode := mode or training_mode(stage):
        return _training(stage, s, on, mode)
    c = stage.config
    write = partial(cost.writing, on=on, batch=c.get("batch_size"))
    score = partial(cost.scoring, on=on, batch=c.get("batch_size"))
    match stage.name:
        case "captions":
            return write(s, rows=c["images"], prompt=PROMPT, new=c["caption_tokens"])
        case "initial" | "final" | "vigc":
            return _pairs(stage, s, write)
        case "scores":
            texts, tokens = count_samples(stage), PROMPT + QUESTION + ANSWER
            return score(s, texts=texts, each=texts / count_images(stage), tokens=tokens)
        case "alone":
            tokens = PROMPT + ANSWER
            return score(s.blind, texts=count_samples(stage), each=1, tokens=tokens, readings=1)
        case "evaluation":
            rows, benchmark = count_questions(stage), BENCHMARKS[c["task"]]
            if each := benchmark.options:
                return score(s, texts=rows * each, each=each, tokens=ASKED + OPTION, readings=1)
            new = benchmark.answer_tokens or c["answer_tokens"]
            return write(s, rows=rows, prompt=ASKED, new=new)
    return None


def _pairs(stage: Stage, s: Shape, write: Callable[..., Cost]) -> Cost:
    """Cost of pairs about images or their captions, which `final` writes itself."""
    c, rows = stage.config, count_images(stage) * len(CLASSES)
    captions = stage.inputs.get("captions", stage).config.get("caption_tokens", 0)
    seen = s if "images" in stage.inputs and stage.name != "final" else s.blind
    pairs = write(seen, rows=rows, prompt=PROMPT + captions, new=c["pair_tokens"])
    if stage.name == "final":
        pairs += write(s, rows=c["images"], prompt=PROMPT, new=captions)
    if stage.name == "vigc":  # each answered again, by sentences, in up to four rounds
        rows *= c["pairs_per_class"] * 4
        pairs += write(s, rows=rows, prompt=PROMPT + QUESTION, new=c["pair_tokens"])
    return pairs


def _training(stage: Stage, s: Shape, on: Device, mode: TrainingMode) -> Cost:
    """VLIT on samples; or L_r on the best share of them, and L_c on a group for each image."""
    c, settings = stage.config, TrainingSettings(**stage.config["settings"])
    readings, samples = c["readings"], stage.inputs["samples"]
    epochs, size, pair = (
        readings["epochs"] or settings.epochs,
        settings.batch_size,
        QUESTION + ANSWER,
    )
    count, l_r, l_c = count_samples(samples), True, False
    pair, tokens, anchors = QUESTION + ANSWER, 0.0, Cost(0, 0)
    if stage.name == "generator":
        per_image, l_r, l_c = count / count_images(samples), c["crm"], c["clm"]
        count *= stage.inputs["selection"].config["share"] if l_r else 1 / per_image
    if l_r:
        tokens += PROMPT + pair + s.image_tokens
    if l_c:  # packed: an image that is seen is there once a group
        negatives = min(settings.max_negatives or per_image, per_image)
        tokens += (1 + negatives) * pair + settings.anchor_tokens
        tokens += s.image_tokens * bool(readings["contrastive_image"])
    if l_c and readings["anchor"] != "prompt":
        rows, batch = max(1, count * epochs), size * settings.anchor_steps
        anchors = cost.writing(s, on, rows, PROMPT, settings.anchor_tokens, batch=batch)
    steps = count * epochs / size
    return anchors + cost.training(s, on, steps, size, tokens, mode, settings.accumulation)
