"""The families besides LLaVA, as small and untrained as `tests.tiny` has it."""

from pathlib import Path

import torch
from transformers import GlmConfig, LlamaConfig, set_seed

from benchmarks.pocket.pretrain import families
from tests.tiny import byte_tokenizer

SHAPE = families.FamilySize(side=24, patch=4, width=32, layers=2, queries_layers=1, tokens=9)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
FAMILIES = {
    "minigpt4": (families.minigpt4, LlamaConfig),
    "blip2": (families.blip2, LlamaConfig),
    "visualglm": (families.blip2, GlmConfig),
    "instructblip": (families.instructblip, LlamaConfig),
    "idefics": (families.idefics, LlamaConfig),
}


def save(name: str, path: Path) -> Path:
    """Write the family's tiny backbone."""
    set_seed(0)
    build, text = FAMILIES[name]
    tokenizer = byte_tokenizer()
    extra = {"num_key_value_heads": 2, "head_dim": 8} if text is GlmConfig else {}
    config = text(vocab_size=len(tokenizer), initializer_range=0.2, **TEXT, **extra)
    model, processor = build(config, tokenizer, SHAPE)
    _wake(model)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@torch.no_grad()
def _wake(model):
    """What begins at zero, so that an untrained model would not see its picture, at random."""
    for name, parameter in model.named_parameters():
        if "alpha" in name or "query_tokens" in name:
            parameter.normal_()
