"""The other families' backbones, from the pocket LLaVA's language model and encoder.

Pre-training each by itself would take as long as LLaVA. As in the paper they share a language model
instead ("7b"; with more layers for "13b" and "80b"; converted to a GLM). The new parts between
picture and language model first learn to reproduce LLaVA's features: in MiniGPT-4 an EVA ViT, as
EVA learnt from CLIP, which the families with a Q-Former then share. Then the whole is tuned on the
mixture of LLaVA's last phase.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    Blip2VisionModel,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from benchmarks.pocket.pretrain import families, graft
from benchmarks.pocket.pretrain.fit import IGNORED, final_loss, fit
from benchmarks.pocket.pretrain.llava import (
    IMAGE_TOKENS,
    PHASES,
    build_processor,
    conversation_batches,
)
from benchmarks.pocket.pretrain.vision import pixels
from benchmarks.pocket.scenes import BALANCED, draw_scene
from c3l.backbones import Backbone
from c3l.backbones.loading import FAMILIES
from c3l.instructions import caption_prompt
from c3l.relevance import answer_states

CLIP = ("llava", "idefics")
"""The families whose encoder is LLaVA's CLIP; the others have an EVA ViT."""
PICTURES = 8000
MIXTURE = PHASES["instructions"] | {"biased": 0.53}
"""As LLaVA's last steps: benchmarks/pocket/README.md."""


@dataclass(frozen=True)
class Relative:
    """A backbone's differences from the 7b LLaVA: family, language model's size or kind."""

    build: Callable | None  # None: LLaVA
    layers: int = 4
    glm: bool = False


RELATIVES = {
    "minigpt4": Relative(families.minigpt4),
    "minigpt4-vicuna-7b": Relative(families.blip2),
    "visualglm-6b": Relative(families.blip2, glm=True),
    "llava-13b": Relative(None, layers=6),
    "blip2-13b": Relative(families.blip2, layers=6),
    "instructblip-7b": Relative(families.instructblip),
    "instructblip-13b": Relative(families.instructblip, layers=6),
    "idefics-80b": Relative(families.idefics, layers=8),
}


def build_relative(
    name: str,
    llava: LlavaForConditionalGeneration,
    eva: Blip2VisionModel | None,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> Backbone:
    """A relative with LLaVA's language model, and its CLIP or this EVA ViT; the rest is new."""
    relative = RELATIVES[name]
    torch.manual_seed(seed)
    llama = graft.language_model(llava)
    if relative.layers != llama.config.num_hidden_layers:
        llama = graft.with_more_layers(llama, relative.layers)
    text = graft.as_glm(llama) if relative.glm else llama
    if relative.build is None:
        config = type(llava.config)(**llava.config.to_dict() | {"text_config": llama.config})
        model, processor = LlavaForConditionalGeneration(config), build_processor(tokenizer)
    else:
        model, processor = relative.build(text.config, tokenizer)
    graft.copy_language_model(text, model)
    if model.config.model_type in CLIP:
        graft.copy_encoder(llava, model)
    elif eva is not None:
        model.get_submodule(_encoder(model)).load_state_dict(eva.state_dict())
    return FAMILIES[model.config.model_type](model, processor, name=name, files=[])


class Objective(nn.Module):
    """A backbone's loss by a function of it and a batch, in the form that `fit` minimises."""

    def __init__(self, backbone: Backbone, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.backbone, self.loss = backbone.model, backbone, loss

    def forward(self, **batch: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=self.loss(self.backbone, **batch))


def feature_distance(backbone: Backbone, targets: Tensor, **batch: Tensor) -> Tensor:
    """The distance of the image features from LLaVA's, as a share of their variance."""
    return F.mse_loss(backbone.image_features(batch), targets) / targets.var()


def answer_loss(backbone: Backbone, **batch: Tensor) -> Tensor:
    """Cross entropy of the assistant's turns, through `Backbone.hidden_states`."""
    states, tokens = answer_states(backbone, batch, batch["labels"] != IGNORED)
    return F.cross_entropy(backbone.head(states), tokens)


def train_relative(
    backbone: Backbone,
    llava: Backbone,
    *,
    new_encoder: bool,
    sight_steps: int,
    tuning_steps: int,
    size: int,
    learning_rate: float,
    seed: int,
) -> dict[str, object]:
    """Train a built relative; return the facts for its card."""
    card: dict[str, object] = {"batch": size, "seed": seed}
    if backbone.model.config.model_type not in CLIP:
        backbone.model.requires_grad_(True)
        for part in backbone.language:
            backbone.model_part(part).requires_grad_(False)
        backbone.model_part(_encoder(backbone.model)).requires_grad_(new_encoder)
        losses = fit(
            Objective(backbone, feature_distance),
            _feature_batches(backbone, llava, seed, 2 * size),
            steps=sight_steps,
            learning_rate=2 * learning_rate,
        )
        card |= {"sight: steps": sight_steps, "sight: unexplained share": final_loss(losses, 50)}
    backbone.model.requires_grad_(True)
    losses = fit(
        Objective(backbone, answer_loss),
        _tuning_batches(backbone, seed + 1, size),
        steps=tuning_steps,
        learning_rate=learning_rate,
    )
    return card | {"tuning: steps": tuning_steps, "tuning: final loss": final_loss(losses, 50)}


def _feature_batches(backbone: Backbone, llava: Backbone, seed: int, size: int) -> Iterator[dict]:
    """Endless batches of PICTURES pictures and LLaVA's features of them.

    With the caption's question where the features depend on one.
    """
    rng = random.Random(seed)
    scenes = [draw_scene(rng, "pretraining", BALANCED) for _ in range(PICTURES)]
    pictures = pixels(scenes)
    with torch.inference_mode():
        targets = [llava.image_features({"pixel_values": part}) for part in pictures.split(256)]
    targets = torch.cat(targets).clone()
    question = (
        backbone.qformer_inputs([caption_prompt()] * size) if len(backbone.image_inputs) > 1 else {}
    )
    while True:
        order = torch.tensor(rng.sample(range(PICTURES), PICTURES))
        for indices in order.split(size):
            if len(indices) == size:
                yield {"pixel_values": pictures[indices], "targets": targets[indices], **question}


def _tuning_batches(backbone: Backbone, seed: int, size: int) -> Iterator[dict[str, Tensor]]:
    """The mixture's batches, in the form of the family."""
    tokenizer = backbone.tokenizer
    tokens = 1 if backbone.model.config.model_type == "idefics" else IMAGE_TOKENS
    for batch in conversation_batches(tokenizer, seed, size, image_tokens=tokens, **MIXTURE):
        if len(backbone.image_inputs) > 1 and "pixel_values" in batch:
            prompts = batch["input_ids"].where(batch["labels"] == IGNORED, tokenizer.pad_token_id)
            batch |= backbone.qformer_inputs(
                tokenizer.batch_decode(prompts, skip_special_tokens=True)
            )
        yield batch


def _encoder(model: PreTrainedModel) -> str:
    return "vision_model" if hasattr(model, "vision_model") else "model.vision_tower"
