"""Cost of a stage by formula: operations, bytes moved, peak memory.

docs/real-size.md has the formulas and their sources, benchmarks/speed/README.md the measurements
beside them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from c3l.readings import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from c3l.backbones import Backbone

GIB = 2**30
RANK = 64  # of the adapters, see c3l.backbones.tuning
FOUR_BITS = 0.516  # bytes of a weight in NF4 with its doubly quantised scales (QLoRA, section 3)


@dataclass(frozen=True)
class DtypeSizes:
    """Bytes of numbers in a device's memory."""

    size: int
    mask: int = 1
    """Of an element of dropout's mask."""
    slack: float = 1.0
    """Bytes allocated for each byte of a training's activations, fragmentation included."""


# Measured (benchmarks/speed/README.md): float32, masks too, and glibc, which gives little back.
CPU = DtypeSizes(4, mask=4, slack=1.6)
HALF = DtypeSizes(2)


@dataclass(frozen=True)
class Shape:
    """A backbone's sizes that decide its cost; weights are counts of parameters.

    `language` holds the layers, which every token goes through; `head` the output product, which
    shares the embedding's weights where `tied`. `image_tokens` of an image stand among a text's, 1
    where it enters by cross-attention. `saved` are the bytes of a weight in the saved files.
    `shared`: texts behind one image may share it (`c3l.packing`).
    """

    vision: int
    projector: int
    language: int
    embedding: int
    head: int
    tied: bool
    layers: int
    width: int
    inner: int
    keys: int
    image_tokens: int
    vision_tokens: int
    vision_layers: int
    vision_width: int
    saved: int
    shared: bool = True

    @property
    def parameters(self) -> int:
        head = 0 if self.tied else self.head
        return self.vision + self.projector + self.language + self.embedding + head

    @property
    def vocabulary(self) -> int:
        return self.head // self.width

    @property
    def adapters(self) -> int:
        """Parameters of LoRA on all linear layers."""
        d, k = self.width, self.keys
        return self.layers * RANK * (4 * d + 2 * (d + k) + 3 * (d + self.inner))


def shape_of_backbone(name: str | Path) -> Shape:
    """Return a backbone's shape, from its folder's configuration or the published one.

    `name` is a folder or a Hub id. It need not exist if its last part is one of
    `c3l.backbones.published`. Raises UserError where there is neither.
    """
    from c3l.backbones.published import configuration

    return shape_of_config(*configuration(name))


def shape_of_config(family: type["Backbone"], config: "PreTrainedConfig") -> Shape:
    """Return the shape of a family's model of this configuration, on the meta device."""
    from c3l.convert.keys import model_shapes

    shapes = model_shapes(family.model_class, config)

    def count(*parts: str) -> int:
        return sum(
            size.numel()
            for key, size in shapes.items()
            if any(key == part or key.startswith(f"{part}.") for part in parts)
        )

    text = config.get_text_config()
    head = next(size for key, size in shapes.items() if key.endswith("lm_head.weight")).numel()
    embedding = text.vocab_size * text.hidden_size
    projector = count(family.projector)
    language = count(*family.language) - embedding - head
    if family.projector.startswith(f"{family.decoder}."):  # among the layers: every token's
        projector, language = 0, language + projector
    total = sum(size.numel() for size in shapes.values())
    vision = config.vision_config
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens = getattr(config, "num_query_tokens", None) or getattr(config, "image_seq_length", 1)
    return Shape(
        vision=total - projector - language - embedding - head,
        projector=projector,
        language=language,
        embedding=embedding,
        head=head,
        tied=bool(text.tie_word_embeddings),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner=text.intermediate_size,
        keys=heads * text.hidden_size // text.num_attention_heads,
        image_tokens=tokens,
        vision_tokens=patches + 1,
        vision_layers=vision.num_hidden_layers,
        vision_width=getattr(vision, "hidden_size", None) or vision.embed_dim,
        saved=4 if "32" in str(config.dtype) else 2,
        shared=not (family.image_inputs[1:] or isinstance(family.no_prefix_sharing_reason, str)),
    )


@dataclass(frozen=True)
class Cost:
    """Operations and bytes, grouped by speed, and peak memory in bytes."""

    reading: float = 0.0
    """Operations of reading prompts, scoring, encoding images."""
    training: float = 0.0
    """Operations of forward and backward passes."""
    writing: float = 0.0
    """Operations of the writing steps ..."""
    fetched: float = 0.0
    """... and the bytes that they fetch: the slower of the two counts."""
    updated: float = 0.0
    """Bytes that the optimizer moves."""
    memory: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Cost(**sums | {"memory": max(self.memory, other.memory)})


def prefill_flops(s: Shape, tokens: float, seen: float) -> float:
    """Operations of the layers on these tokens, which see `seen` positions in total."""
    return 2 * s.language * tokens + 4 * s.layers * s.width * seen


def vision_flops(s: Shape) -> float:
    """Operations of encoder and projector on an image."""
    seen = 4 * s.vision_layers * s.vision_width * s.vision_tokens**2
    return 2 * s.vision * s.vision_tokens + seen + 2 * s.projector * s.image_tokens


def _passing(s: Shape, tokens: float, pictures: float, size: int) -> float:
    """Bytes of one layer's activations on these tokens, or of an encoder layer's on the images."""
    text = tokens * (2 * s.width + 3 * s.inner)
    return size * max(text, pictures * s.vision_tokens * 10 * s.vision_width)


def writing_cost(
    s: Shape,
    rows: int,
    prompt: float,
    new: float,
    *,
    pictured: bool,
    batch: int,
    numbers: DtypeSizes,
) -> Cost:
    """Cost of writing `rows` texts of `new` tokens each behind prompts of `prompt` tokens."""
    size = numbers.size
    batch = min(batch, rows)
    start = prompt + s.image_tokens * pictured
    seen = new * start + new * new / 2
    cached = 2 * s.layers * s.keys * size  # a token
    # A batch's last predictions: as computed, in float32, sorted and summed for the nucleus.
    logits = batch * s.vocabulary * (size + 5 * 4)
    return Cost(
        reading=rows * (prefill_flops(s, start, start * start / 2) + vision_flops(s) * pictured),
        writing=rows * (2 * s.head * new + prefill_flops(s, new, seen)),
        fetched=rows / batch * new * (s.language + s.head) * size + 3 * rows * cached * seen,
        memory=s.parameters * size
        + batch * cached * (start + new)
        + max(_passing(s, batch * start, batch * pictured, size), logits),
    )


WINDOW = 512  # samples whose states without an image are stored, see c3l.relevance


def scoring_cost(
    s: Shape,
    images: int,
    each: float,
    question: float,
    answer: float,
    *,
    batch: int,
    numbers: DtypeSizes,
    with_image: bool = True,
    without_image: bool = True,
) -> Cost:
    """Cost of the likelihoods of `each` answers an image; I²C needs them with and without it.

    With the image, texts are packed where the family can be. `question` counts all tokens of a text
    besides its answer, prompt format included.
    """
    size, n, texts = numbers.size, question + answer, images * each
    run = min(each, batch) if s.shared else 1  # texts that share an image's tokens
    rows = min(batch, texts) / run
    image = prefill_flops(s, s.image_tokens, s.image_tokens**2 / 2) + vision_flops(s)
    visual = texts / run * image + texts * prefill_flops(s, n, n * (s.image_tokens + n / 2))
    direct = texts * prefill_flops(s, n, n * n / 2)
    logits = min(batch, texts) * answer * s.vocabulary * 6 * 4
    passing = _passing(s, rows * (s.image_tokens * with_image + run * n), rows * with_image, size)
    return Cost(
        reading=visual * with_image
        + direct * without_image
        + (with_image + without_image) * 2 * s.head * texts * answer,
        memory=s.parameters * size
        + min(WINDOW, texts) * answer * s.width * size
        + max(passing, logits),
    )


class Texts(NamedTuple):
    """Texts of one training step."""

    count: float
    tokens: float
    """Per text, without the image's."""
    predicted: float
    """Tokens with a loss."""
    pictured: bool


@dataclass(frozen=True)
class TrainingMode:
    """Parameters that train, and two ways to save memory."""

    tuning: Tuning
    checkpointing: bool = False
    gpus: int = 1
    """FSDP shards weights, gradients and states over them; batches are split as well."""


def trained_parameters(s: Shape, tuning: Tuning) -> int:
    """Count the parameters with a gradient."""
    head = 0 if s.tied else s.head
    language = s.language + s.embedding + head
    if tuning == "full":
        return s.parameters
    return s.projector + {"language+projector": language, "projector": 0}.get(tuning, s.adapters)


def training_cost(
    s: Shape,
    steps: float,
    texts: Iterable[Texts],
    mode: TrainingMode,
    *,
    parts: int,
    numbers: DtypeSizes,
) -> Cost:
    """Cost of `steps` on these texts each, computed in `parts` (gradient accumulation)."""
    size = numbers.size
    weights_train = mode.tuning in ("full", "language+projector")
    operations = tokens = predicted = pictures = longest = 0.0
    image = vision_flops(s) * (3 if mode.tuning == "full" else 1) + 4 * s.projector * s.image_tokens
    for text in texts:
        n = text.tokens + s.image_tokens * text.pictured
        linear, seen = 2 * s.language * n, 4 * s.layers * s.width * n * n / 2
        each = (2 + weights_train) * linear + 3 * seen + mode.checkpointing * (linear + seen)
        each += 6 * s.adapters * n * (mode.tuning in ("lora", "qlora"))
        each += (6 if weights_train else 4) * s.head * text.predicted
        operations += text.count * (each + text.pictured * image)
        tokens += text.count * n
        predicted += text.count * text.predicted
        pictures += text.count * text.pictured
        longest = max(longest, n)
    share = parts * mode.gpus
    part = max(tokens / share, longest)  # tokens in memory at one time: a text at least
    predicted, pictures = (max(x / share, min(x, 1)) for x in (predicted, pictures))
    saved = _saved_activations(s, mode, part, pictures, numbers)
    saved += predicted * s.vocabulary * (size + 12)
    gradients = 4 * trained_parameters(s, mode.tuning) / mode.gpus
    memory = _states(s, mode, size) + gradients + numbers.slack * saved
    memory += _passing(s, part, pictures, size)
    # Weights are loaded, and merged at the end, unsharded and in their saved precision.
    return Cost(
        training=steps * operations,
        updated=steps * 28 * trained_parameters(s, mode.tuning),
        memory=max(memory, s.parameters * size),
    )


def _states(s: Shape, mode: TrainingMode, size: int) -> float:
    """Bytes of weights and of AdamW's two states; weights that train are float32."""
    moving = trained_parameters(s, mode.tuning)
    frozen = s.parameters + (s.adapters + s.projector) * (mode.tuning in ("lora", "qlora")) - moving
    rounded = s.language if mode.tuning == "qlora" else 0
    still = (frozen - rounded) * size + rounded * min(FOUR_BITS, size)
    copies = size if size < 4 else 0  # autocast's, of the weights that train
    states = still + moving * (4 + 8 + copies)
    # FSDP gathers the layer that is computed, and the next one.
    gathered = 2 * s.language / s.layers * size if mode.gpus > 1 else 0.0
    return states / mode.gpus + gathered


def _saved_activations(
    s: Shape, mode: TrainingMode, tokens: float, pictures: float, numbers: DtypeSizes
) -> float:
    """Bytes that the layers save of so many tokens for the backward pass.

    Of a layer: the residual stream before each norm, in float32; queries, keys, values and their
    product; the MLP's three products. Where weights train, also the inputs of each; where adapters
    do, those after dropout, and dropout's mask.
    """
    d, k, i, size = s.width, s.keys, s.inner, numbers.size
    layer = 2 * 4 * d + size * (2 * d + 2 * k + 3 * i)
    if mode.tuning in ("full", "language+projector"):
        layer += size * (5 * d + i)
    elif mode.tuning in ("lora", "qlora"):
        layer += (size + numbers.mask) * (6 * d + i) + size * 7 * RANK
    bytes_ = tokens * (size * d * s.layers + layer if mode.checkpointing else layer * s.layers)
    if mode.tuning == "full":  # the encoder saves its own, in about a Llama's proportions
        bytes_ += pictures * s.vision_tokens * s.vision_layers * 20 * s.vision_width * size
    return bytes_
