"""What a stage of the pipeline has to do, as `repro.estimate.cost` counts it, from its configuration alone.

Every text is taken to be as long as the profile lets it be, and every pair asked for to be written:
so it is rather too much. Other lengths are constants, below.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmarks import BENCHMARKS
from c3l.artifacts.store import Source, Stage
from c3l.instructions import CLASSES
from c3l.samples import read_records
from c3l.settings import TrainingSettings
from repro import paper
from repro.estimate import cost
from repro.estimate.cost import GIB, PROCESSOR, Cost, DtypeSizes, Shape, Texts, TrainingMode
from repro.estimate.devices import ON_A_PROCESSOR, Device
from repro.rows import PUBLISHED

# Tokens, at 1.3 for a word: the paper's table 2 has 23.4 words in a question and 12.8 in an answer.
QUESTION, ANSWER = 31, 17
# The prompt format and an instruction; a benchmark's question with its options.
PROMPT, ASKED = 60, 100
OPTION = 4  # tokens of an option whose likelihood is compared
# What `beside_others` reckons with: the pocket world's LLaVA-7B, and a core of an ordinary machine.
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
CORE = Device("an ordinary core", 4 * GIB, 1e11, 1e10, ON_A_PROCESSOR, PROCESSOR)
MODEL = ("backbone", "generator", "weights")
"""The names of a stage's input that is a model."""


def weights(stage: Stage) -> Source | None:
    """The weights that a stage's model was made from, if it has a model."""
    source = next((stage.inputs[name] for name in MODEL if name in stage.inputs), None)
    return weights(source) if isinstance(source, Stage) else source


def samples(stage: Stage) -> int:
    """How many samples a stage gives, if all that are asked for come."""
    if stage.name == "comparison":
        found = _turns(stage.inputs["data"].path) if "data" in stage.inputs else 0
        return found or _published()[stage.config["name"]]
    if size := stage.config.get("size"):
        return size
    each = len(CLASSES) * stage.config.get("pairs_per_class", 0)
    if each:
        return each * images(stage) * (2 if stage.name == "vigc" else 1)
    return samples(stage.inputs["samples"])


def images(stage: Stage) -> int:
    """How many images a stage's samples are about."""
    if count := stage.config.get("images"):
        return count
    for name in ("captions", "samples"):
        if name in stage.inputs:
            return images(stage.inputs[name])
    return max(1, samples(stage) // 5)  # others' data have about five turns an image


@cache
def _turns(folder: Path) -> int:
    """Samples in a folder of others' data; 0 where it is not there."""
    return sum(len(record) for path in folder.glob("*") for record in read_records(path))


@cache
def _published() -> dict[str, int]:
    """Instances of others' data, as the paper's table 2 has them. Their turns are more."""
    table = paper.load()["table2"]
    return {name: int(table.cell(label, "instances")) for label, name in PUBLISHED.items()}


def questions(stage: Stage) -> int:
    """How many questions a benchmark asks, from its files where they are there."""
    import pyarrow.parquet

    data = stage.inputs["data"].path
    found = sorted(data.rglob("*.parquet")) if data.is_dir() else []
    try:
        rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in found)
    except (pyarrow.ArrowInvalid, OSError):
        rows = 0
    return rows or BENCHMARKS[stage.config["task"]].rows


def training_mode(stage: Stage) -> TrainingMode | None:
    """How a stage trains, if it does."""
    if stage.name not in ("vlit", "generator"):
        return None
    settings = TrainingSettings(**stage.config["settings"])
    return TrainingMode(stage.config["readings"]["tuning"], settings.gradient_checkpointing)


def cost_of(
    stage: Stage, s: Shape, numbers: DtypeSizes, trained: TrainingMode | None = None
) -> Cost | None:
    """What a stage costs with a model of this shape; None where no model is at work.

    `trained` is another way to train than the stage's own.
    """
    make = _KINDS.get(stage.name)
    if make is None:
        return None
    found = make(stage, s, numbers)
    return found(trained or training_mode(stage)) if training_mode(stage) else found


def relative_cost(stage: Stage) -> float:
    """What a stage has to do, for comparison with others of its name: seconds of a small model on
    one core, whatever its own model is. 1.0 for a stage without a model.

    No model is looked at, so that nothing large is imported.
    """
    found = cost_of(stage, SMALL, PROCESSOR)
    return CORE.seconds(found) if found else 1.0


def written(stage: Stage, s: Shape | None, numbers: DtypeSizes) -> float:
    """Bytes that a stage leaves on the disk: models whole, in the precision they are loaded in."""
    if stage.name in ("vlit", "generator"):
        return cost.weights(s, numbers.size) if s else 0.0
    if stage.name == "scores":
        return samples(stage) * ANSWER * 3 * 4
    if stage.name == "evaluation":
        return questions(stage) * 1000  # an answer with its prompt
    if stage.name in ("initial", "filtered", "final", "vigc", "comparison", "cut"):
        return samples(stage) * 400
    return 0.0


def _captions(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    c = stage.config
    return cost.write(
        s,
        c["images"],
        PROMPT,
        c["caption_tokens"],
        pictured=True,
        batch=c["batch_size"],
        numbers=numbers,
    )


def _pairs(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    c = stage.config
    captions = stage.inputs.get("captions", stage).config.get("caption_tokens", 0)
    return cost.write(
        s,
        images(stage) * len(CLASSES),
        PROMPT + captions,
        c["pair_tokens"],
        pictured="images" in stage.inputs and stage.name == "initial",
        batch=c["batch_size"],
        numbers=numbers,
    )


def _vigc(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    """Pairs from the images, and each answered again, by sentences, in up to four rounds."""
    c = stage.config
    each = {"pictured": True, "batch": c["batch_size"], "numbers": numbers}
    rows = images(stage) * len(CLASSES)
    direct = cost.write(s, rows, PROMPT, c["pair_tokens"], **each)
    again = rows * c["pairs_per_class"] * 4
    return direct + cost.write(s, again, PROMPT + QUESTION, c["pair_tokens"], **each)


def _scores(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    shown = images(stage)
    return cost.score(
        s,
        shown,
        samples(stage) / shown,
        PROMPT + QUESTION,
        ANSWER,
        batch=stage.config["batch_size"],
        numbers=numbers,
    )


def _alone(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    texts, batch = samples(stage), stage.config["batch_size"]
    return cost.score(s, 1, texts, PROMPT, ANSWER, batch=batch, numbers=numbers, behind=False)


def _vlit(stage: Stage, s: Shape, numbers: DtypeSizes) -> Callable[[TrainingMode], Cost]:
    settings = TrainingSettings(**stage.config["settings"])
    size, epochs = settings.batch_size, stage.config["readings"]["epochs"] or settings.epochs
    steps = samples(stage.inputs["samples"]) * epochs / size
    texts = [Texts(size, PROMPT + QUESTION + ANSWER, ANSWER, True)]
    return lambda way: cost.train(
        s, steps, texts, way, parts=settings.accumulation, numbers=numbers
    )


def _generator(stage: Stage, s: Shape, numbers: DtypeSizes) -> Callable[[TrainingMode], Cost]:
    """L_r on the best share, L_c on a group an image: its texts and an anchor that is written."""
    config, settings = stage.config, TrainingSettings(**stage.config["settings"])
    pool, groups = samples(stage.inputs["samples"]), images(stage.inputs["samples"])
    share = stage.inputs["selection"].config["share"]
    count = share * pool if config["crm"] else groups
    epochs, size = config["readings"]["epochs"] or settings.epochs, settings.batch_size
    texts, anchors = [], Cost()
    pair = QUESTION + ANSWER
    if config["crm"]:
        texts.append(Texts(size, PROMPT + pair, pair, True))
    if config["clm"]:
        others = min(settings.max_negatives or pool, pool / groups)
        shown = bool(config["readings"]["contrastive_image"])
        texts += [
            # packed: an image that is seen is there once a group
            Texts(size, (1 + others) * pair + settings.anchor_tokens, 0, shown),
        ]
        if config["readings"]["anchor"] != "prompt":
            anchors = cost.write(
                s,
                round(max(1, count * epochs)),
                PROMPT,
                settings.anchor_tokens,
                pictured=True,
                batch=size * settings.anchor_steps,
                numbers=numbers,
            )
    steps = count * epochs / size

    def found(way: TrainingMode) -> Cost:
        made = cost.train(s, steps, texts, way, parts=settings.accumulation, numbers=numbers)
        # Anchors are written between steps, beside gradients' and optimizer's states.
        states = 12 * cost.trained(s, way.tuning) / way.gpus if anchors.memory else 0.0
        return made + anchors + Cost(memory=anchors.memory + states)

    return found


def _evaluation(stage: Stage, s: Shape, numbers: DtypeSizes) -> Cost:
    benchmark, rows = BENCHMARKS[stage.config["task"]], questions(stage)
    common = {"batch": stage.config["batch_size"], "numbers": numbers}
    if benchmark.options:
        return cost.score(s, rows, benchmark.options, ASKED, OPTION, **common, without=False)
    new = benchmark.answer_tokens or stage.config["answer_tokens"]
    return cost.write(s, rows, ASKED, new, pictured=True, **common)


_KINDS = {
    "captions": _captions,
    "initial": _pairs,
    "final": lambda stage, s, numbers: _captions(stage, s, numbers) + _pairs(stage, s, numbers),
    "vigc": _vigc,
    "scores": _scores,
    "alone": _alone,
    "generator": _generator,
    "vlit": _vlit,
    "evaluation": _evaluation,
}
