"""A random-weight LLaVA of a few thousand parameters, with a byte tokenizer that knows no word."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    set_seed,
)

from c3l.backbones import Generated

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '\n' }}"
    "{% else %}{{ 'ASSISTANT:\n' }}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}</s>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:\n' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 256 byte tokens and four special ones: every text is encoded, none is lost."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    vocab = {token: i for i, token in enumerate(special)}
    vocab |= {f"<0x{byte:02X}>": len(special) + byte for byte in range(256)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " ")]
    )
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        chat_template=CHAT_TEMPLATE,
    )


def save_tiny_llava(path: Path, seed: int = 0) -> Path:
    """Write a LLaVA with one vision and two language layers, width 32, 24 px images, 9 patches."""
    set_seed(seed)
    tokenizer = byte_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=24,
        patch_size=8,
        projection_dim=32,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=image_token,
            image_seq_length=9,
        )
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"height": 24, "width": 24}, do_center_crop=False, do_resize=True),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    model.half().save_pretrained(path)  # as the pocket backbones and most published ones are
    processor.save_pretrained(path)
    return path


def as_numbers(backbone, monkeypatch) -> None:
    """A random model's bytes are seldom letters: let the backbone give its tokens' numbers."""

    def read(tokens, _):
        ends = [i for i, token in enumerate(tokens) if token in backbone._end_ids]
        return Generated(str(tokens[: ends[0]] if ends else tokens), finished=bool(ends))

    monkeypatch.setattr(backbone, "_read", read)
