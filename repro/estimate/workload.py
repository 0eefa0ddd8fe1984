"""Work of the pipeline's stages, for `repro.estimate.cost`, from their configuration alone.

Every text counts as long as the profile lets it be, and every configured pair as written, which
overestimates. Other lengths are the constants below.
"""

from functools import cache
from pathlib import Path

from benchmarks import BENCHMARKS
from c3l.artifacts.store import Source, Stage
from c3l.instructions import CLASSES
from c3l.runtime.errors import UserError
from c3l.samples import read_records
from c3l.settings import TrainingSettings
from repro import paper
from repro.estimate import cost
from repro.estimate.cost import CPU, GIB, Cost, DtypeSizes, Shape, Texts, TrainingMode
from repro.estimate.devices import CPU_SHARES, Device
from repro.rows import PUBLISHED

# Tokens, at 1.3 for a word: the paper's table 2 has 23.4 words in a question and 12.8 in an answer.
QUESTION, ANSWER = 31, 17
# The prompt format and an instruction; a benchmark's question with its options.
PROMPT, ASKED = 60, 100
OPTION = 4  # tokens of an option whose likelihood is compared
# For `relative_cost`: the pocket world's LLaVA-7B, and a core of an ordinary machine.
SMALL = Shape(
    vision=448_416,
    projector=28_928,
    language=853_120,
    embedding=106_624,
    head=106_624,
    tied=True,
    layers=4,
    width=128,
    inner=384,
    keys=128,
    image_tokens=9,
    vision_tokens=10,
    vision_layers=4,
    vision_width=96,
    saved=2,
)
CORE = Device("an ordinary core", 4 * GIB, 1e11, 1e10, CPU_SHARES, CPU)
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


def parquet_rows(folder: Path) -> int:
    """Count the rows of the files below a folder. Raises UserError for one that is damaged."""
    import pyarrow.parquet

    rows = 0
    for file in sorted(folder.rglob("*.parquet")):
        try:
            rows += pyarrow.parquet.read_metadata(file).num_rows
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise UserError(f"{file} cannot be read as parquet ({error}); get it again") from error
    return rows


def training_mode(stage: Stage) -> TrainingMode | None:
    """Return the mode in which a stage trains, or None."""
    if stage.name not in _TRAININGS:
        return None
    settings = TrainingSettings(**stage.config["settings"])
    return TrainingMode(stage.config["readings"]["tuning"], settings.gradient_checkpointing)


def cost_of(
    stage: Stage, s: Shape, numbers: DtypeSizes, mode: TrainingMode | None = None
) -> Cost | None:
    """Return a stage's cost with a model of this shape, or None where no model runs.

    `mode` replaces the stage's own training mode.
    """
    if mode := mode or training_mode(stage):
        return _TRAININGS[stage.name](stage, s, numbers, mode)
    return _COSTS[stage.name](stage, s, numbers) if stage.name in _COSTS else None


def relative_cost(stage: Stage) -> float:
    """Return a stage's work, to compare with that of others of its name; 1.0 without a model.

    It is the seconds of a small model on one core, whatever the stage's own model is: no model is
    read, so that nothing large is imported.
    """
    small = cost_of(stage, SMALL, CPU)
    return CORE.seconds(small) if small else 1.0


def bytes_on_disk(stage: Stage, s: Shape | None, numbers: DtypeSizes) -> float:
    """Bytes that a stage writes: all weights of a model, in the precision it is loaded in."""
    if stage.name in _TRAININGS:
        return s.parameters * numbers.size if s else 0.0
    if stage.name == "scores":
        return count_samples(stage) * ANSWER * 3 * 4
    if stage.name == "evaluation":
        return count_questions(stage) * 1000  # an answer with its prompt
    if stage.name in ("initial", "filtered", "final", "vigc", "comparison", "cut"):
        return count_samples(stage) * 400
    return 0.0


def _captions(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    c, batch = stage.config, _batch(stage, numbers)
    return cost.writing_cost(s, c["images"], PROMPT, c["caption_tokens"], pictured=True, **batch)


def _pairs(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    rows, new = count_images(stage) * len(CLASSES), stage.config["pair_tokens"]
    prompt = PROMPT + stage.inputs.get("captions", stage).config.get("caption_tokens", 0)
    pictured, batch = "images" in stage.inputs and stage.name == "initial", _batch(stage, numbers)
    return cost.writing_cost(s, rows, prompt, new, pictured=pictured, **batch)


def _vigc(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    """Pairs from the images, and each answered again, by sentences, in up to four rounds."""
    c, each = stage.config, {"pictured": True} | _batch(stage, numbers)
    rows = count_images(stage) * len(CLASSES)
    direct = cost.writing_cost(s, rows, PROMPT, c["pair_tokens"], **each)
    corrected = rows * c["pairs_per_class"] * 4
    return direct + cost.writing_cost(s, corrected, PROMPT + QUESTION, c["pair_tokens"], **each)


def _scores(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    pictures, batch = count_images(stage), _batch(stage, numbers)
    each = count_samples(stage) / pictures
    return cost.scoring_cost(s, pictures, each, PROMPT + QUESTION, ANSWER, **batch)


def _answer_logprobs(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    texts, batch = count_samples(stage), _batch(stage, numbers)
    return cost.scoring_cost(s, 1, texts, PROMPT, ANSWER, with_image=False, **batch)


def _vlit(stage: Stage, s: Shape, numbers: DtypeSizes, mode: TrainingMode) -> Cost:
    settings = TrainingSettings(**stage.config["settings"])
    size, epochs = settings.batch_size, stage.config["readings"]["epochs"] or settings.epochs
    steps = count_samples(stage.inputs["samples"]) * epochs / size
    texts = [Texts(size, PROMPT + QUESTION + ANSWER, ANSWER, True)]
    return cost.training_cost(s, steps, texts, mode, parts=settings.accumulation, numbers=numbers)


def _generator(stage: Stage, s: Shape, numbers: DtypeSizes, mode: TrainingMode) -> Cost:
    """L_r on the best share; L_c on a group for each image: its texts and a written anchor."""
    config, settings = stage.config, TrainingSettings(**stage.config["settings"])
    pool, groups = count_samples(stage.inputs["samples"]), count_images(stage.inputs["samples"])
    share = stage.inputs["selection"].config["share"]
    count = share * pool if config["crm"] else groups
    epochs, size = config["readings"]["epochs"] or settings.epochs, settings.batch_size
    texts, anchors = [], Cost()
    pair = QUESTION + ANSWER
    if config["crm"]:
        texts.append(Texts(size, PROMPT + pair, pair, True))
    if config["clm"]:
        negatives = min(settings.max_negatives or pool, pool / groups)
        pictured = bool(config["readings"]["contrastive_image"])
        # Packed: an image that is seen is there once a group.
        texts.append(Texts(size, (1 + negatives) * pair + settings.anchor_tokens, 0, pictured))
        if config["readings"]["anchor"] != "prompt":
            rows, batch = round(max(1, count * epochs)), size * settings.anchor_steps
            each = {"pictured": True, "batch": batch, "numbers": numbers}
            anchors = cost.writing_cost(s, rows, PROMPT, settings.anchor_tokens, **each)
    steps, parts = count * epochs / size, settings.accumulation
    training = cost.training_cost(s, steps, texts, mode, parts=parts, numbers=numbers)
    # Anchors are written between steps, beside the gradients and the optimizer's states.
    states = 12 * cost.trained_parameters(s, mode.tuning) / mode.gpus if anchors.memory else 0.0
    return training + anchors + Cost(memory=anchors.memory + states)


def _evaluation(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    benchmark, rows = BENCHMARKS[stage.config["task"]], count_questions(stage)
    batch, options = _batch(stage, numbers), benchmark.options
    if options:
        return cost.scoring_cost(s, rows, options, ASKED, OPTION, without_image=False, **batch)
    new = benchmark.answer_tokens or stage.config["answer_tokens"]
    return cost.writing_cost(s, rows, ASKED, new, pictured=True, **batch)


def _batch(stage: Stage, numbers: DtypeSizes) -> dict:
    """The arguments of `repro.estimate.cost` that say what is computed at one time."""
    return {"batch": stage.config["batch_size"], "numbers": numbers}


_COSTS = {
    "captions": _captions,
    "initial": _pairs,
    "final": lambda stage, s, numbers: _captions(stage, s, numbers) + _pairs(stage, s, numbers),
    "vigc": _vigc,
    "scores": _scores,
    "alone": _answer_logprobs,
    "evaluation": _evaluation,
}
_TRAININGS = {"generator": _generator, "vlit": _vlit}
