"""Published checkpoints of random weights: the exact names, small shapes, float64."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

EVA = {
    "hidden_size": 16,
    "intermediate_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
    "layer_norm_eps": 1e-6,
}
Q_FORMER = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "cross_attention_frequency": 2,
    "layer_norm_eps": 1e-12,
}
QUERIES = 5
WIDTH = 32
"""Of the language model."""
TEXT = (
    "Describe this image in detail. What is on the left of the picture? Human Assistant "
    "USER ASSISTANT A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "[INST] <Img></Img> [/INST] ###"
)


def random(*shape: int, about: float = 0.0) -> Tensor:
    return about + 0.15 * torch.randn(shape, dtype=torch.float64)


def linear(name: str, wide: int, narrow: int) -> dict[str, Tensor]:
    return {f"{name}.weight": random(wide, narrow), f"{name}.bias": random(wide)}


def norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": random(width, about=1.0), f"{name}.bias": random(width)}


def eva_vit(eva: dict = EVA) -> dict[str, Tensor]:
    """eva_vit_g.pth: the tensors themselves, without "model" around them."""
    d, patch = eva["hidden_size"], eva["patch_size"]
    found = {
        "cls_token": random(1, 1, d),
        "pos_embed": random(1, 1 + (eva["image_size"] // patch) ** 2, d),
        "patch_embed.proj.weight": random(d, 3, patch, patch),
        "patch_embed.proj.bias": random(d),
    }
    for i in range(eva["num_hidden_layers"]):
        at = f"blocks.{i}"
        found |= norm(f"{at}.norm1", d) | norm(f"{at}.norm2", d)
        found |= {f"{at}.attn.q_bias": random(d), f"{at}.attn.v_bias": random(d)}
        found |= {f"{at}.attn.qkv.weight": random(3 * d, d)} | linear(f"{at}.attn.proj", d, d)
        found |= linear(f"{at}.mlp.fc1", eva["intermediate_size"], d)
        found |= linear(f"{at}.mlp.fc2", d, eva["intermediate_size"])
    return found


def q_former(
    q: dict = Q_FORMER, seen: int = EVA["hidden_size"], queries: int = QUERIES
) -> dict[str, Tensor]:
    """What blip2_pretrained_flant5xxl.pth has under "model"."""
    d, inner = q["hidden_size"], q["intermediate_size"]
    found = {"query_tokens": random(1, queries, d)} | norm("ln_vision", seen)
    found |= norm("Qformer.bert.embeddings.LayerNorm", d) | linear("t5_proj", 24, d)
    found |= {"Qformer.bert.embeddings.position_ids": torch.arange(512)[None]}
    for i in range(q["num_hidden_layers"]):
        at = f"Qformer.bert.encoder.layer.{i}"
        crossed = i % q["cross_attention_frequency"] == 0
        for kind, width in [("attention", d)] + [("crossattention", seen)] * crossed:
            found |= linear(f"{at}.{kind}.self.query", d, d)
            found |= linear(f"{at}.{kind}.self.key", d, width)
            found |= linear(f"{at}.{kind}.self.value", d, width)
            found |= linear(f"{at}.{kind}.output.dense", d, d)
            found |= norm(f"{at}.{kind}.output.LayerNorm", d)
        found |= linear(f"{at}.intermediate_query.dense", inner, d)
        found |= linear(f"{at}.output_query.dense", d, inner)
        found |= norm(f"{at}.output_query.LayerNorm", d)
    return found


def minigpt4(width: int) -> dict:
    """MiniGPT-4's own checkpoint: what was trained, buffers, and the trainer's state."""
    buffer = "llama_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    return {
        "model": linear("llama_proj", WIDTH, width) | {buffer: torch.ones(4)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 3e-5}]},
        "config": {"run": {"seed": 42}},
        "scaler": None,
        "epoch": 4,
    }


def save_llama(folder: Path, kind: str = "llama", shards: int = 2) -> LlamaForCausalLM:
    """A folder as the language models' authors publish it, with sentencepiece's tokenizer."""
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(_pieces())
    config = {"architectures": ["LlamaForCausalLM"], "model_type": kind, "torch_dtype": "float16"}
    config |= {"hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "vocab_size": 400, "rms_norm_eps": 1e-5}
    config |= {"max_position_embeddings": 512, "rope_scaling": None, "pad_token_id": 0}
    config |= {"bos_token_id": 1, "eos_token_id": 2, "transformers_version": "4.31.0"}
    (folder / "config.json").write_text(json.dumps(config))
    sized = ("architectures", "model_type", "torch_dtype", "transformers_version", "rope_scaling")
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k not in sized}))
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(random(*parameter.shape, about=float(parameter.ndim == 1)))
    tensors = dict(model.state_dict())
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_bins(folder, tensors, shards)
    return model


def save_bins(folder: Path, tensors: dict[str, Tensor], shards: int) -> None:
    """pytorch_model.bin, or shards of it with their index."""
    names = list(tensors)
    place = {}
    for i in range(shards):
        file = f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin"
        file = "pytorch_model.bin" if shards == 1 else file
        torch.save({name: tensors[name].clone() for name in names[i::shards]}, folder / file)
        place |= dict.fromkeys(names[i::shards], file)
    if shards > 1:
        index = {"metadata": {}, "weight_map": place}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def save_clip(folder: Path) -> CLIPModel:
    """CLIP as OpenAI publishes it: both towers, its buffers, pytorch_model.bin."""
    folder.mkdir()
    small = {"hidden_size": 16, "intermediate_size": 28, "num_hidden_layers": 3}
    small |= {"num_attention_heads": 4, "projection_dim": 8}
    config = CLIPConfig(
        vision_config=small | {"image_size": 28, "patch_size": 7, "hidden_act": "quick_gelu"},
        text_config=small | {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
        projection_dim=8,
    )
    model = CLIPModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(random(*parameter.shape, about=float(parameter.ndim == 1)))
    config.save_pretrained(folder)
    buffers = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    save_bins(folder, model.state_dict() | buffers, 1)
    return model


def _pieces() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 4),
        model_writer=model,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=True,
        minloglevel=2,
    )
    return model.getvalue()


def mm_projector() -> dict[str, Tensor]:
    """LLaVA's mm_projector.bin."""
    first, second = "model.mm_projector.0", "model.mm_projector.2"
    return linear(first, WIDTH, 16) | linear(second, WIDTH, WIDTH)
