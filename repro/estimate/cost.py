"""What a stage takes, by formula: operations, bytes moved, the most memory at one time.

Weights P, tokens n, layers L, width d, inner width i, keys (and values) of width k, bytes of a
number b. The mathematics with its sources, what was measured against it and what was not:
docs/real-size.md and benchmarks/speed/README.md.

- Reading a token: 2 P operations, and 4 d in each layer for every position that it sees. The head:
  2 operations a weight, where a prediction is asked for.
- Training on it: as much again for the gradient of what it came from, and as much again for that of
  the weights where they are trained (6 P; with frozen weights 4 P, and 6 for each weight of an
  adapter). Layers that are computed once more for the gradient: 2 P more.
- Writing: the prompt is read; then each step reads the weights once for the whole batch, and each
  row's keys and values, which it also copies to make room for one more.
- AdamW moves 28 bytes a trained weight and step: weight, gradient and two states in float32.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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
    """How numbers lie in a device's memory, in bytes."""

    size: int
    mask: int = 1
    """Of a place in dropout's mask."""
    slack: float = 1.0
    """What a training's activations take, holes between them included, for each byte of theirs."""


# Measured (benchmarks/speed/README.md): float32, masks too, and glibc, which gives little back.
PROCESSOR = DtypeSizes(4, mask=4, slack=1.6)
HALF = DtypeSizes(2)


@dataclass(frozen=True)
class Shape:
    """What of a backbone decides its cost. Weights are counts of parameters."""

    vision: int
    projector: int
    language: int
    """Of the layers, which every token goes through."""
    embedding: int
    head: int
    """Of the last product, which may be the embedding's weights (`tied`)."""
    tied: bool
    layers: int
    width: int
    inner: int
    keys: int
    image_tokens: int
    """Of an image among a text's; one that is looked at by cross-attention takes one."""
    vision_tokens: int
    vision_layers: int
    vision_width: int
    saved: int
    """Bytes of a weight as it was saved."""
    shared: bool = True
    """Whether texts behind one image may share it (`c3l.packing`)."""

    @property
    def parameters(self) -> int:
        head = 0 if self.tied else self.head
        return self.vision + self.projector + self.language + self.embedding + head

    @property
    def vocabulary(self) -> int:
        return self.head // self.width

    @property
    def adapters(self) -> int:
        """Parameters of LoRA beside all linears of the layers."""
        d, k = self.width, self.keys
        return self.layers * RANK * (4 * d + 2 * (d + k) + 3 * (d + self.inner))


def shape(name: str | Path) -> Shape:
    """A backbone's, from its folder's configuration on the meta device, or the published one.

    `name` is a folder or a Hub id, and need not be there if its last part is one of
    `c3l.backbones.published`. Raises UserError where there is neither.
    """
    from c3l.backbones.published import configuration

    return shape_of(*configuration(name))


def shape_of(family: type["Backbone"], config: "PreTrainedConfig") -> Shape:
    """The shape of a family's model of this configuration, whose weights are never made."""
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
    vision = config.vision_config
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens = getattr(config, "num_query_tokens", None) or getattr(config, "image_seq_length", 1)
    return Shape(
        vision=sum(size.numel() for size in shapes.values())
        - projector
        - language
        - embedding
        - head,
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
    """Operations and bytes, by how fast they go, and the most bytes of memory at one time."""

    reading: float = 0.0
    """Operations of prompts that are read, scores, vision encoders."""
    training: float = 0.0
    """Operations of forward and backward passes."""
    writing: float = 0.0
    """Operations of the steps of writing ..."""
    fetched: float = 0.0
    """... and the bytes that they fetch: either may be what takes long."""
    updated: float = 0.0
    """Bytes that the optimizer moves."""
    memory: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Both, one after the other."""
        work = {name: getattr(self, name) + getattr(other, name) for name in _WORK}
        return Cost(**work, memory=max(self.memory, other.memory))


_WORK = ("reading", "training", "writing", "fetched", "updated")


def prefill_flops(s: Shape, tokens: float, seen: float) -> float:
    """Operations of the layers for so many tokens that see so many positions, all together."""
    return 2 * s.language * tokens + 4 * s.layers * s.width * seen


def vision_flops(s: Shape) -> float:
    """Operations of encoder and projector for an image."""
    seen = 4 * s.vision_layers * s.vision_width * s.vision_tokens**2
    return 2 * s.vision * s.vision_tokens + seen + 2 * s.projector * s.image_tokens


def _row(s: Shape, tokens: float, pictured: bool) -> float:
    """Operations of a text of so many tokens that is read, behind an image or not."""
    n = tokens + s.image_tokens * pictured
    return prefill_flops(s, n, n * n / 2) + vision_flops(s) * pictured


def weights(s: Shape, size: int) -> float:
    return s.parameters * size


def _passing(s: Shape, tokens: float, pictures: float, size: int) -> float:
    """Bytes of one layer at work on so many tokens, or of the encoder's on so many images."""
    text = tokens * (2 * s.width + 3 * s.inner)
    return size * max(text, pictures * s.vision_tokens * 10 * s.vision_width)


def write(
    s: Shape,
    rows: int,
    prompt: float,
    new: float,
    *,
    pictured: bool,
    batch: int,
    numbers: DtypeSizes,
) -> Cost:
    """`rows` texts of `new` tokens behind prompts of `prompt`, so many in a batch.

    All texts are taken to be as long as the longest.
    """
    size = numbers.size
    batch = min(batch, rows)
    start = prompt + s.image_tokens * pictured
    seen = new * start + new * new / 2
    cached = 2 * s.layers * s.keys * size  # a token
    # A batch's last predictions: as they come, in float32, sorted and summed up for the nucleus.
    logits = batch * s.vocabulary * (size + 5 * 4)
    return Cost(
        reading=rows * _row(s, prompt, pictured),
        writing=rows * (2 * s.head * new + prefill_flops(s, new, seen)),
        fetched=rows / batch * new * (s.language + s.head) * size + 3 * rows * cached * seen,
        memory=weights(s, size)
        + batch * cached * (start + new)
        + max(_passing(s, batch * start, batch * pictured, size), logits),
    )


WINDOW = 512  # samples whose readings without an image are kept, see c3l.relevance


def score(
    s: Shape,
    images: int,
    each: float,
    question: float,
    answer: float,
    *,
    batch: int,
    numbers: DtypeSizes,
    behind: bool = True,
    without: bool = True,
) -> Cost:
    """The likelihood of `each` answers an image: `behind` it, packed where the family can be, and
    `without` it; I²C asks for both.

    `question` is all that a text has besides its answer, prompt format included.
    """
    size, n, texts = numbers.size, question + answer, images * each
    run = min(each, batch) if s.shared else 1  # texts that share an image's tokens
    rows = min(batch, texts) / run
    image = prefill_flops(s, s.image_tokens, s.image_tokens**2 / 2) + vision_flops(s)
    shown = texts / run * image + texts * prefill_flops(s, n, n * (s.image_tokens + n / 2))
    alone = texts * prefill_flops(s, n, n * n / 2)
    logits = min(batch, texts) * answer * s.vocabulary * 6 * 4
    passing = _passing(s, rows * (s.image_tokens * behind + run * n), rows * behind, size)
    return Cost(
        reading=shown * behind + alone * without + (behind + without) * 2 * s.head * texts * answer,
        memory=weights(s, size)
        + min(WINDOW, texts) * answer * s.width * size
        + max(passing, logits),
    )


class Texts(NamedTuple):
    """Texts of one step of training."""

    count: float
    tokens: float
    """Without the image's."""
    predicted: float
    """Of the tokens, those with a loss."""
    pictured: bool


@dataclass(frozen=True)
class TrainingMode:
    """How is trained."""

    tuning: Tuning
    checkpointing: bool = False
    gpus: int = 1
    """Over which FSDP shards weights, gradients and states; batches are split as well."""


def trained(s: Shape, tuning: Tuning) -> int:
    """The parameters with a gradient."""
    head = 0 if s.tied else s.head
    language = s.language + s.embedding + head
    match tuning:
        case "full":
            return s.parameters
        case "language+projector":
            return language + s.projector
        case "projector":
            return s.projector
    return s.adapters + s.projector


def train(
    s: Shape,
    steps: float,
    texts: Iterable[Texts],
    way: TrainingMode,
    *,
    parts: int,
    numbers: DtypeSizes,
) -> Cost:
    """So many steps on these texts each, computed in `parts` (gradient accumulation)."""
    size = numbers.size
    texts, whole = list(texts), way.tuning in ("full", "language+projector")
    operations = kept = predicted = pictures = longest = 0.0
    for text in texts:
        n = text.tokens + s.image_tokens * text.pictured
        linear, seen = 2 * s.language * n, 4 * s.layers * s.width * n * n / 2
        each = (3 if whole else 2) * linear + 3 * seen + way.checkpointing * (linear + seen)
        each += 6 * s.adapters * n * (way.tuning in ("lora", "qlora"))
        each += (6 if whole else 4) * s.head * text.predicted
        image = (
            vision_flops(s) * (3 if way.tuning == "full" else 1) + 4 * s.projector * s.image_tokens
        )
        operations += text.count * (each + text.pictured * image)
        kept += text.count * n
        predicted += text.count * text.predicted
        pictures += text.count * text.pictured
        longest = max(longest, n)
    share = parts * way.gpus
    part = max(kept / share, longest)  # tokens in memory at one time: a text at least
    predicted, pictures = (max(x / share, min(x, 1)) for x in (predicted, pictures))
    kept = _kept(s, way, part, pictures, numbers) + predicted * s.vocabulary * (size + 12)
    gradients = 4 * trained(s, way.tuning) / way.gpus
    memory = _states(s, way, size) + gradients + numbers.slack * kept
    memory += _passing(s, part, pictures, size)
    # Weights are loaded, and merged at the end, whole and in the precision they were saved in.
    return Cost(
        training=steps * operations,
        updated=steps * 28 * trained(s, way.tuning),
        memory=max(memory, weights(s, size)),
    )


def _states(s: Shape, way: TrainingMode, size: int) -> float:
    """Bytes of weights and of AdamW's two states; what trains is float32."""
    moving = trained(s, way.tuning)
    frozen = s.parameters + (s.adapters + s.projector) * (way.tuning in ("lora", "qlora")) - moving
    rounded = s.language if way.tuning == "qlora" else 0
    still = (frozen - rounded) * size + rounded * min(FOUR_BITS, size)
    copies = size if size < 4 else 0  # autocast's, of the weights that train
    states = still + moving * (4 + 8 + copies)
    if way.gpus == 1:
        return states
    # FSDP gathers a layer where it is at work, and the next one.
    return states / way.gpus + 2 * s.language / s.layers * size


def _kept(
    s: Shape, way: TrainingMode, tokens: float, pictures: float, numbers: DtypeSizes
) -> float:
    """Bytes that the layers keep of so many tokens until their gradient has been computed.

    Of a layer: the residual stream before each norm, in float32; queries, keys, values and what
    comes of them; the MLP's three products. Where weights train, also what went into each of them;
    where adapters do, that after dropout, and dropout's mask.
    """
    d, k, i, size = s.width, s.keys, s.inner, numbers.size
    layer = 2 * 4 * d + size * (2 * d + 2 * k + 3 * i)
    if way.tuning in ("full", "language+projector"):
        layer += size * (5 * d + i)
    elif way.tuning in ("lora", "qlora"):
        layer += (size + numbers.mask) * (6 * d + i) + size * 7 * RANK
    layers = s.layers
    bytes_ = tokens * (layer * layers if not way.checkpointing else size * d * layers + layer)
    if way.tuning == "full":  # the encoder keeps its own, in about a Llama's proportions
        bytes_ += pictures * s.vision_tokens * s.vision_layers * 20 * s.vision_width * size
    return bytes_
