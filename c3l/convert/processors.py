"""The published prompts as chat templates, and the published image preprocessing.

Each template is one round of question and answer as the family's authors write it; the image token
stands where theirs does.
"""

from transformers import (
    Blip2Processor,
    CLIPImageProcessor,
    LlavaImageProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from c3l.backbones.minigpt4 import JOINED

_TEMPLATE = (
    "{{% for message in messages %}}"
    "{{% if message['role'] == 'user' %}}"
    "{{{{ {user} }}}}"
    "{{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{{{{ {image} }}}}"
    "{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}"
    "{{{{ {asked} }}}}"
    "{{% else %}}"
    "{{{{ {answer} }}}}"
    "{{% for part in message['content'] %}}{{{{ part['text'] }}}}{{% endfor %}}{{{{ {end} }}}}"
    "{{% endif %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ {begin} }}}}{{% endif %}}"
)

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user\\'s questions. "
)

LLAVA_V1 = _TEMPLATE.format(
    user=f"('{_SYSTEM}' if loop.first else '') + 'USER: '",
    image=r"'<image>\n'",
    asked="' '",
    answer="'ASSISTANT: '",
    begin="'ASSISTANT:'",
    end="'</s>'",
)
"""The conversation "v1" that LLaVA 1.5 is trained and evaluated with."""

_APART = "{# An answer is tokenised, with what ends it, apart from its prompt. #}"
"""How a folder's chats are read is part of its digest: MiniGPT-4's were once tokenised whole."""

MINIGPT4_VICUNA = _APART + _TEMPLATE.format(
    user="'###Human: '",
    image="'<Img><image></Img> '",
    asked="' '",
    answer="'###Assistant: '",
    begin="'###Assistant: '",
    end="'###'",
)
"""MiniGPT-4's prompt template for Vicuna; an answer is taught, and ends, with ###."""

MINIGPT4_LLAMA2 = _APART + _TEMPLATE.format(
    user="'[INST] '",
    image="'<Img><image></Img> '",
    asked="' [/INST] '",
    answer="''",
    begin="''",
    end="'</s>'",
)
"""MiniGPT-4's prompt template for Llama-2."""


def minigpt4_images(side: int) -> CLIPImageProcessor:
    """Bicubic straight to a square, CLIP's mean and deviation."""
    return CLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False)


def _patches_processor(images, tokenizer: PreTrainedTokenizerFast, patch: int) -> LlavaProcessor:
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def minigpt4_processor(tokenizer: PreTrainedTokenizerFast, side: int, patch: int) -> LlavaProcessor:
    """The Llama-2 kind's: four patches become one image token."""
    # The processor counts tokens by the size of a patch: as many as squares of four patches, though
    # those that are joined are neighbours in a row.
    return _patches_processor(minigpt4_images(side), tokenizer, int(patch * JOINED**0.5))


def blip2_processor(tokenizer: PreTrainedTokenizerFast, side: int, queries: int) -> Blip2Processor:
    """The Vicuna kind's: a query, an image token."""
    processor = Blip2Processor(minigpt4_images(side), tokenizer, num_query_tokens=queries)
    processor.chat_template = tokenizer.chat_template
    return processor


def llava_processor(
    tokenizer: PreTrainedTokenizerFast, side: int, patch: int, pad: bool
) -> LlavaProcessor:
    """CLIP's own: the shorter edge to `side`, the centre; with `pad` a square around it first."""
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    images = LlavaImageProcessor(**sizes, do_pad=True) if pad else CLIPImageProcessor(**sizes)
    return _patches_processor(images, tokenizer, patch)
