"""The pocket LLaVA's parts in other models: its language model grown, as a GLM, in a family."""

import torch
from torch import nn
from transformers import (
    GlmConfig,
    GlmForCausalLM,
    IdeficsForVisionText2Text,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedModel,
)


def language_model(llava: LlavaForConditionalGeneration) -> LlamaForCausalLM:
    """A copy of LLaVA's language model, with its head."""
    llama = LlamaForCausalLM(llava.config.text_config)
    llama.model.load_state_dict(llava.model.language_model.state_dict())
    llama.lm_head.load_state_dict(llava.lm_head.state_dict())
    llama.tie_weights()
    return llama


@torch.no_grad()
def with_more_layers(llama: LlamaForCausalLM, layers: int) -> LlamaForCausalLM:
    """The same function with more layers, which further training can use.

    Block expansion (Wu et al. 2024, LLaMA Pro): copies of layers, spread evenly, whose outputs are
    zero. The old number of layers is a multiple of the number of new ones.
    """
    old = llama.config.num_hidden_layers
    config = LlamaConfig(**llama.config.to_dict() | {"num_hidden_layers": layers})
    larger = LlamaForCausalLM(config)
    larger.model.load_state_dict(llama.model.state_dict(), strict=False)
    larger.lm_head.load_state_dict(llama.lm_head.state_dict())
    larger.tie_weights()
    interval = old // (layers - old)
    new_layers = iter(larger.model.layers)
    for number in range(old):
        for copy in range(2 if (number + 1) % interval == 0 else 1):
            layer = next(new_layers)
            layer.load_state_dict(llama.model.layers[number].state_dict())
            if copy:
                nn.init.zeros_(layer.self_attn.o_proj.weight)
                nn.init.zeros_(layer.mlp.down_proj.weight)
    return larger


@torch.no_grad()
def as_glm(llama: LlamaForCausalLM) -> GlmForCausalLM:
    """The same function as a GLM, which rotates neighbouring dimensions together, not halves."""
    old = llama.config
    shared = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"),
        *("initializer_range", "rms_norm_eps", "tie_word_embeddings"),
        *("pad_token_id", "bos_token_id", "eos_token_id"),
    )
    glm = GlmForCausalLM(
        GlmConfig(
            **{name: getattr(old, name) for name in shared},
            attention_bias=False,
            rope_parameters={**old.rope_parameters, "partial_rotary_factor": 1.0},
        )
    )
    weights = llama.model.state_dict()
    for number in range(old.num_hidden_layers):
        attention, mlp = f"layers.{number}.self_attn.", f"layers.{number}.mlp."
        for name in ("q_proj.weight", "k_proj.weight"):
            heads = weights[attention + name].view(-1, 2, old.head_dim // 2, old.hidden_size)
            weights[attention + name] = heads.transpose(1, 2).reshape(-1, old.hidden_size)
        projections = [weights.pop(f"{mlp}{name}_proj.weight") for name in ("gate", "up")]
        weights[f"{mlp}gate_up_proj.weight"] = torch.cat(projections)
    glm.model.load_state_dict(weights)
    glm.lm_head.load_state_dict(llama.lm_head.state_dict())
    glm.tie_weights()
    return glm


@torch.no_grad()
def copy_language_model(llama: PreTrainedModel, model: PreTrainedModel) -> None:
    """Copy a language model's weights into `model`."""
    if isinstance(model, IdeficsForVisionText2Text):
        # Its own layers that look at the picture stand beside the Llama's.
        model.model.load_state_dict(llama.model.state_dict(), strict=False)
    elif hasattr(model, "language_model"):
        model.language_model.load_state_dict(llama.state_dict())
    else:
        model.model.language_model.load_state_dict(llama.model.state_dict())
    model.tie_weights()


@torch.no_grad()
def copy_encoder(llava: LlavaForConditionalGeneration, model: PreTrainedModel) -> None:
    """Copy LLaVA's CLIP to an IDEFICS, or CLIP and projector to a larger LLaVA."""
    clip = llava.model.vision_tower.state_dict()
    if isinstance(model, IdeficsForVisionText2Text):
        model.model.vision_model.load_state_dict(clip)
    else:
        model.model.vision_tower.load_state_dict(clip)
        model.model.multi_modal_projector.load_state_dict(
            llava.model.multi_modal_projector.state_dict()
        )
