"""The published models' forward passes, written out: image to what the language model reads.

EVA ViT and MiniGPT-4 as in github.com/Vision-CAIR/MiniGPT-4 (models/eva_vit.py, minigpt4.py,
Qformer.py), by the published names, in the tensors' own precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def eva_vit(w: dict[str, Tensor], pixels: Tensor, heads: int, eps: float = 1e-6) -> Tensor:
    """Pixels [b, 3, h, w] to the states behind the last block [b, 1 + n, d]."""
    patch = w["patch_embed.proj.weight"]
    x = F.conv2d(pixels, patch, w["patch_embed.proj.bias"], stride=patch.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + w["pos_embed"]
    for i in range(sum(name.endswith("q_bias") for name in w)):
        at = f"blocks.{i}"
        y = _norm(w, f"{at}.norm1", x, eps)
        q, k, v = (y @ w[f"{at}.attn.qkv.weight"].T).chunk(3, -1)
        q, v = q + w[f"{at}.attn.q_bias"], v + w[f"{at}.attn.v_bias"]
        x = x + _linear(w, f"{at}.attn.proj", _attention(q, k, v, heads))
        y = F.gelu(_linear(w, f"{at}.mlp.fc1", _norm(w, f"{at}.norm2", x, eps)))
        x = x + _linear(w, f"{at}.mlp.fc2", y)
    return x


def joined(w: dict[str, Tensor], states: Tensor, eps: float = 1e-5) -> Tensor:
    """The Llama-2 kind: `ln_vision` as it is made, no CLS, four patches a token, one linear."""
    x = F.layer_norm(states, states.shape[-1:], eps=eps)[:, 1:]
    return _linear(w, "llama_proj", x.reshape(len(x), -1, 4 * x.shape[-1]))


def queried(
    q: dict[str, Tensor], w: dict[str, Tensor], states: Tensor, heads: int, eps: float = 1e-5
) -> Tensor:
    """The Vicuna kind: `ln_vision` as BLIP-2 has it, the Q-Former's queries, one linear."""
    seen = _norm(q, "ln_vision", states, eps)
    x = q["query_tokens"].expand(len(seen), -1, -1)
    x = _norm(q, "Qformer.bert.embeddings.LayerNorm", x, 1e-12)
    for i in range(sum(name.endswith("intermediate_query.dense.bias") for name in q)):
        at = f"Qformer.bert.encoder.layer.{i}"
        x = _bert_attention(q, f"{at}.attention", x, x, heads)
        if f"{at}.crossattention.self.query.weight" in q:
            x = _bert_attention(q, f"{at}.crossattention", x, seen, heads)
        y = F.gelu(_linear(q, f"{at}.intermediate_query.dense", x))
        y = _linear(q, f"{at}.output_query.dense", y)
        x = _norm(q, f"{at}.output_query.LayerNorm", x + y, 1e-12)
    return _linear(w, "llama_proj", x)


def _bert_attention(w: dict[str, Tensor], at: str, x: Tensor, seen: Tensor, heads: int) -> Tensor:
    q = _linear(w, f"{at}.self.query", x)
    k, v = _linear(w, f"{at}.self.key", seen), _linear(w, f"{at}.self.value", seen)
    y = _linear(w, f"{at}.output.dense", _attention(q, k, v, heads))
    return _norm(w, f"{at}.output.LayerNorm", x + y, 1e-12)


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(w: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)
