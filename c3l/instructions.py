"""The three instruction classes of section 3.1 and the prompts that ask for their data.

The wording is part of the pocket backbones: their language models were trained on it.
"""

CLASSES = ("conversation", "detailed description", "complex reasoning")

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ONE = {
    "conversation": "Generate one question about what can be seen in the image and then answer it.",
    "detailed description": "Generate one question that asks for a detailed description "
    "of the image and then answer it.",
    "complex reasoning": "Generate one in-depth reasoning question "
    "and then answer it based on the image.",
}
_MANY = {
    "conversation": "Generate {n} questions about what can be seen in the image "
    "and then answer them.",
    "detailed description": "Generate {n} questions that ask for a detailed description "
    "of the image and then answer them.",
    "complex reasoning": "Generate {n} in-depth reasoning questions "
    "and then answer them based on the image.",
}


def caption_prompt() -> str:
    """The question of the first step: the image, captioned."""
    return "Describe the image in detail."


def pair_prompt(instruction: str, n: int) -> str:
    """The request for `n` question-answer pairs about an image that the model sees.

    Raises ValueError unless `instruction` is one of CLASSES and 1 <= n <= 10.
    """
    if instruction not in CLASSES:
        raise ValueError(f"instruction {instruction!r} is none of {', '.join(CLASSES)}")
    if not 1 <= n <= len(_NUMBERS):
        raise ValueError(f"n is {n}; ask for one to {len(_NUMBERS)} pairs")
    return _ONE[instruction] if n == 1 else _MANY[instruction].format(n=_NUMBERS[n - 1])


def pair_prompt_from_caption(instruction: str, n: int, caption: str) -> str:
    """The request of the second step: text only, the caption standing for the image."""
    return f"Caption: {caption}\n{pair_prompt(instruction, n)}"


def format_pair(question: str, answer: str) -> str:
    """A pair as the generator writes it; `c3l.generation.parse_pairs` reads it back."""
    return f"Question: {question}\nAnswer: {answer}"
