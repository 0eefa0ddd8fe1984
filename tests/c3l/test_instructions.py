"""The wording of the prompts is fixed: the pocket backbones were trained on it."""

import pytest

from c3l.instructions import (
    CLASSES,
    caption_prompt,
    format_pair,
    pair_prompt,
    pair_prompt_from_caption,
)


def test_the_exact_wording():
    assert caption_prompt() == "Describe the image in detail."
    assert [pair_prompt(instruction, 5) for instruction in CLASSES] == [
        "Generate five questions about what can be seen in the image and then answer them.",
        "Generate five questions that ask for a detailed description of the image "
        "and then answer them.",
        "Generate five in-depth reasoning questions and then answer them based on the image.",
    ]
    assert [pair_prompt(instruction, 1) for instruction in CLASSES] == [
        "Generate one question about what can be seen in the image and then answer it.",
        "Generate one question that asks for a detailed description of the image "
        "and then answer it.",
        "Generate one in-depth reasoning question and then answer it based on the image.",
    ]
    assert pair_prompt_from_caption("conversation", 2, "A {red} ball.") == (
        "Caption: A {red} ball.\n"
        "Generate two questions about what can be seen in the image and then answer them."
    )
    assert format_pair("Why?", "So.") == "Question: Why?\nAnswer: So."


@pytest.mark.parametrize(("instruction", "n"), [("poetry", 1), ("conversation", 0)])
def test_what_cannot_be_asked(instruction, n):
    with pytest.raises(ValueError):
        pair_prompt(instruction, n)
    with pytest.raises(ValueError):
        pair_prompt("conversation", 11)
