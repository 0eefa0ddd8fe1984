"""Rules that rename the published weights of each part to transformers' names."""

from c3l.convert.keys import Rules

# Any part of a name; an index.
_REST, _N = r"(.+)", r"(\d+)"


def eva_vit(to: str) -> Rules:
    """EVA ViT-g as LAVIS and MiniGPT-4 name it, to a `Blip2VisionModel` at `to`.

    The biases of queries and values are joined later (keys.py).
    """
    prefix = r"(?:visual_encoder\.)?"
    layer, block = rf"{to}.encoder.layers.\1", rf"{prefix}blocks\.{_N}"
    return [
        (rf"{prefix}cls_token", f"{to}.embeddings.class_embedding"),
        (rf"{prefix}pos_embed", f"{to}.embeddings.position_embedding"),
        (rf"{prefix}patch_embed\.proj\.{_REST}", rf"{to}.embeddings.patch_embedding.\1"),
        (rf"{block}\.norm([12])\.{_REST}", rf"{layer}.layer_norm\2.\3"),
        (rf"{block}\.attn\.qkv\.weight", f"{layer}.self_attn.qkv.weight"),
        (rf"{block}\.attn\.([qv])_bias", rf"{layer}.self_attn.\2_bias"),
        (rf"{block}\.attn\.proj\.{_REST}", rf"{layer}.self_attn.projection.\2"),
        (rf"{block}\.mlp\.{_REST}", rf"{layer}.mlp.\2"),
        (rf"ln_vision\.{_REST}", rf"{to}.post_layernorm.\1"),
    ]


def q_former() -> Rules:
    """BLIP-2's queries and Q-Former, to `Blip2ForConditionalGeneration`."""
    layer, block = r"qformer.encoder.layer.\1", rf"Qformer\.bert\.encoder\.layer\.{_N}"
    return [
        ("query_tokens", "query_tokens"),
        (rf"Qformer\.bert\.embeddings\.LayerNorm\.{_REST}", r"qformer.layernorm.\1"),
        (rf"{block}\.((?:cross)?attention)\.self\.{_REST}", rf"{layer}.\2.attention.\3"),
        (rf"{block}\.((?:cross)?attention)\.output\.{_REST}", rf"{layer}.\2.output.\3"),
        (rf"{block}\.((?:intermediate|output)_query)\.{_REST}", rf"{layer}.\2.\3"),
    ]


def llama(model: str, head: str) -> Rules:
    """A Llama with its head: the decoder at `model`, the head at `head`."""
    return [
        (rf"model\.((?:embed_tokens|layers|norm)\.{_REST})", rf"{model}.\1"),
        (r"lm_head\.weight", f"{head}.weight"),
    ]


def minigpt4_projection(to: str) -> Rules:
    """MiniGPT-4's one linear layer."""
    return [(r"llama_proj\.(weight|bias)", rf"{to}.\1")]


def llava_projection() -> Rules:
    """LLaVA 1.5's two-layer projector."""
    to = "model.multi_modal_projector"
    return [
        (r"model\.mm_projector\.0\.(weight|bias)", rf"{to}.linear_1.\1"),
        (r"model\.mm_projector\.2\.(weight|bias)", rf"{to}.linear_2.\1"),
    ]


def clip(prefix: str = "") -> Rules:
    """CLIP's vision model, named below `prefix`, to LLaVA's tower."""
    return [
        (rf"{prefix}vision_model\.(?!embeddings\.position_ids){_REST}", r"model.vision_tower.\1")
    ]


LLAVA_TOWER = r"model\.vision_tower\.vision_tower\."
"""Where a whole LLaVA checkpoint has its tower, if it has one."""
