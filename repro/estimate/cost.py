"""Seconds and peak memory of writing, scoring and training, by one formula each.

docs/real-size.md explains them, benchmarks/speed/README.md sets measurements beside them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from c3l.readings import Tuning
from repro.estimate.devices import Device

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from c3l.backbones import Backbone

RANK = 64  # of the adapters, see c3l.backbones.tuning
FOUR_BITS = 0.516  # bytes of a weight in NF4 with its doubly quantised scales (QLoRA, section 3)
# Of a Llama, over its layers' weights divided by their width, which are 12 numbers of the width a
# layer: numbers that the layer at work holds of a token; that layers keep of it for the backward
# pass (residual stream in float32, attention, the MLP's products; where weights train the inputs
# of each, where adapters do those after dropout and its mask); LoRA's weights for each of its rank.
AT_WORK, KEPT_FROZEN, KEPT_WEIGHTS, KEPT_ADAPTERS, LORA = 0.83, 1.33, 2.0, 2.75, 1.58


class Shape(NamedTuple):
    """A backbone's sizes that decide its cost; the first four are counts of parameters.

    `language` holds the layers, which every token goes through; `head` the output product, which
    shares the embedding's weights where `tied`. `keys`: width of a layer's keys. `image_tokens` of
    an image stand among a text's, 1 where it enters by cross-attention. `shared`: texts behind one
    image may share it (`c3l.packing`).
    """

    vision: int
    projector: int
    language: int
    head: int
    layers: int
    width: int
    keys: int
    image_tokens: int
    vision_tokens: int
    tied: bool
    shared: bool = True

    @property
    def parameters(self) -> int:
        return self.vision + self.projector + self.language + (2 - self.tied) * self.head

    @property
    def blind(self) -> "Shape":
        """The same model without an image before it."""
        return self._replace(image_tokens=0, vision_tokens=0)

    @property
    def image_flops(self) -> float:
        """Operations of encoder and language model on an image."""
        return 2 * (self.vision * self.vision_tokens + self.language * self.image_tokens)

    def loaded_bytes(self, on: Device) -> float:
        """Bytes of a worker that has loaded all weights."""
        return self.parameters * on.size + on.overhead

    def layer_bytes(self, tokens: float, size: int) -> float:
        """Bytes of the layer at work on these tokens."""
        return AT_WORK * size * tokens * self.language / self.layers / self.width

    def trained(self, tuning: Tuning) -> float:
        """Count the parameters with a gradient."""
        match tuning:
            case "full":
                return self.parameters
            case "language+projector":
                return self.parameters - self.vision
            case "projector":
                return self.projector
        return self.projector + LORA * RANK * self.language / self.width


def shape_of_backbone(name: str | Path) -> Shape:
    """Return the shape of a folder or Hub id, which need not exist if it is a published one's.

    Raises UserError where it neither exists nor is one of `c3l.backbones.published`.
    """
    from c3l.backbones.published import configuration

    return shape_of_config(*configuration(name))


def shape_of_config(family: type["Backbone"], config: "PreTrainedConfig") -> Shape:
    """Return the shape of a family's model of this configuration, on the meta device."""
    from c3l.convert.keys import model_shapes

    sizes = {k: v.numel() for k, v in model_shapes(family.model_class, config).items()}

    def count(*parts: str) -> int:
        return sum(n for key, n in sizes.items() if f"{key}.".startswith(tuple(parts)))

    text, vision = config.get_text_config(), config.vision_config
    head = next(n for key, n in sizes.items() if key.endswith("lm_head.weight"))
    projector = count(f"{family.projector}.")
    language = count(*(f"{part}." for part in family.language)) - 2 * head
    if family.projector.startswith(f"{family.decoder}."):  # among the layers: every token's
        projector, language = 0, language + projector
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    tokens = getattr(config, "num_query_tokens", None) or getattr(config, "image_seq_length", 1)
    return Shape(
        vision=sum(sizes.values()) - projector - language - 2 * head,
        projector=projector,
        language=language,
        head=head,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        keys=heads * text.hidden_size // text.num_attention_heads,
        image_tokens=tokens,
        vision_tokens=(vision.image_size // vision.patch_size) ** 2 + 1,
        tied=bool(text.tie_word_embeddings),
        shared=not (family.image_inputs[1:] or isinstance(family.no_prefix_sharing_reason, str)),
    )


@dataclass(frozen=True)
class Cost:
    """Seconds on a device, and a worker's peak memory in bytes."""

    seconds: float
    memory: float

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        return Cost(self.seconds + other.seconds, max(self.memory, other.memory))


def writing(s: Shape, on: Device, rows: int, prompt: float, new: float, *, batch: int) -> Cost:
    """Cost of writing `rows` texts of `new` tokens each behind an image and `prompt` tokens.

    A step fetches all weights once a batch, and each row's keys and values, which are read and
    copied to grow.
    """
    batch, start = min(batch, rows), prompt + s.image_tokens
    cached = 2 * s.layers * s.keys * on.size  # bytes of a position
    weights = s.language + s.head
    fetched = weights * on.size / batch + 3 * cached * (start + new / 2)
    step = max(2 * weights / on.operations, fetched / on.bandwidth) / on.writing
    prefill = (2 * s.language * prompt + s.image_flops) / on.operations / on.reading
    memory = batch * cached * (start + new) + s.layer_bytes(batch * start, on.size)
    return Cost(rows * (prefill + new * step), s.loaded_bytes(on) + memory)


def scoring_flops(s: Shape, texts: float, run: float, tokens: float, readings: int = 2) -> float:
    """Operations of answers' likelihoods behind the image (1 reading), and without it (2).

    `run` texts of `tokens` each share one pass over their image.
    """
    return texts * (readings * 2 * s.language * tokens + s.image_flops / run)


def scoring(
    s: Shape, on: Device, texts: float, each: float, tokens: float, *, batch: int, readings: int = 2
) -> Cost:
    """Cost of `scoring_flops` with `each` texts an image, packed where the family can be."""
    run = min(each, batch) if s.shared else 1
    work = scoring_flops(s, texts, run, tokens, readings)
    together = min(batch, texts) * (tokens + s.image_tokens / run)
    memory = s.loaded_bytes(on) + s.layer_bytes(together, on.size)
    return Cost(work / on.operations / on.reading, memory)


class TrainingMode(NamedTuple):
    """Parameters that train, and two ways to save memory."""

    tuning: Tuning
    checkpointing: bool = False
    gpus: int = 1
    """FSDP shards weights, gradients and states over them; batches are split as well."""


def training(
    s: Shape, on: Device, steps: float, texts: float, tokens: float, mode: TrainingMode, parts: int
) -> Cost:
    """Cost of `steps` on `texts` of `tokens` each, image included, computed in `parts`.

    Each token passes the layers forward, back for the activations, back for weights that train,
    and forward again with checkpointing.
    """
    weights_train = mode.tuning in ("full", "language+projector")
    adapters = mode.tuning in ("lora", "qlora")
    passes, moving = 2 + weights_train + mode.checkpointing, s.trained(mode.tuning)
    operations = texts * tokens * (2 * passes * s.language + 6 * moving * adapters)
    update = 28 * moving / on.bandwidth  # bytes that AdamW moves for each
    at_once = max(texts / parts / mode.gpus, 1) * tokens
    layer = KEPT_WEIGHTS if weights_train else KEPT_ADAPTERS if adapters else KEPT_FROZEN
    saved = layer * s.language / s.width
    if mode.checkpointing:
        saved = saved / s.layers + s.layers * s.width
    memory = _states(s, on, mode, moving) + s.layer_bytes(at_once, on.size)
    memory += on.slack * at_once * on.size * saved
    seconds = steps * (operations / on.operations / on.training + update)
    # Weights are loaded, and merged at the end, unsharded and in their saved precision.
    return Cost(seconds, max(memory + on.overhead, s.loaded_bytes(on)))


def _states(s: Shape, on: Device, mode: TrainingMode, moving: float) -> float:
    """Bytes of weights, gradients and AdamW's two states; weights that train are float32."""
    frozen = s.parameters if mode.tuning in ("lora", "qlora") else s.parameters - moving
    states = frozen * on.size + moving * (16 + (on.size if on.size < 4 else 0))  # autocast's copy
    if mode.tuning == "qlora":
        states -= s.language * (on.size - FOUR_BITS)
    # FSDP gathers the layer that is computed, and the next one.
    return states / mode.gpus + (mode.gpus > 1) * 2 * s.language / s.layers * on.size
