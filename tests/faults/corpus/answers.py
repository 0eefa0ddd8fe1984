"""What a model may answer: any bytes at all, as the tokenizer decodes them."""

import random
from collections.abc import Iterator

from tests.faults.corpus.generate import Case

# What parsers look for, to be thrown together.
PIECES = (
    *(
        "Question:",
        "Answer:",
        "Q:",
        "A:",
        "**Question 2:**",
        "1.",
        "2)",
        "Q1.",
        "(3)",
        "\n",
        "\n\n",
    ),
    *("question :", "ANSWER：", "\t", " ", "* ", "> ", "- ", "# ", ".", "?", "!", '"', "'", ":"),
    *("yes", "no", "Yes.", "not", "A", "(B)", "The answer is C", "[Context]\n", "[Question]\n"),
    *("[Assistant 1]\n", "[End of Assistant 2]", "[System]\n", "8 4", "-1", "10/10", "nan", "1e9"),
    *("What colour is the ball?", "It is red.", "A ball is red.", "Describe the image in detail."),
    *("There is one thing in a field.", "A small red ball stands north.", "Write a program"),
    *("\0", "\x1b[2J", "\ufeff", "\u2028", "\u202e", "é", "ſ", "İ", "K", "٣", "𝟛", "\U0001f600"),
    *("<image>", "</s>", "###", "[INST]", "{{ 7 * 7 }}", "<script>", "%s", "{0}", "\\", "\ufffd"),
)

WHOLE = {
    "nothing": "",
    "white space": " \n\t\r\v\f\u00a0\u2003",
    "one question for ever": "Question: Why? " * 3000,
    "one answer for ever": "Answer: So. " * 3000,
    "one word for ever": "red " * 10_000,
    "one letter for ever": "a" * 100_000,
    "one space for ever": " " * 100_000 + "x",
    "one full stop for ever": "." * 50_000,
    "one quote for ever": 'a."' + '"' * 50_000,
    "asterisks for ever": "*" * 50_000,
    "numbers for ever": "1. " * 20_000,
    "line feeds for ever": "\n" * 50_000,
    "marks without a text": "Question:Answer:" * 2000,
    "a mark in each line": "Q:\nA:\n" * 3000,
    "brackets for ever": "[Context]\n\n\n[Question]\n" * 300,
    "a caption of five things": "A small red ball stands north. " * 5,
    "a caption for ever": "A small red ball stands north. " * 300,
    "a pair": "Question: What colour is the ball? Answer: It is red.",
    "a pair in other words": "1. **Q**: Why?\n**A**: So.",
    "the question as its answer": "Question: Why is it so? Answer: Why is it so?",
    "grades": "8 7\nBoth are good.",
}


def cases(rng: random.Random) -> Iterator[Case]:
    for name, text in WHOLE.items():
        yield Case("model answer", name, text.encode(), "parsed")
    for k in range(50):
        text = "".join(rng.choice(PIECES) for _ in range(rng.choice((1, 3, 10, 40))))
        yield Case("model answer", f"pieces, {k}", text.encode(), "parsed")
    for k in range(20):
        # A tokenizer with byte fallback decodes what is no UTF-8 with replacement characters.
        text = rng.randbytes(rng.choice((1, 10, 200))).decode("utf-8", "replace")
        yield Case("model answer", f"random bytes, {k}", text.encode(), "parsed")
    for k in range(20):
        text = "".join(chr(rng.randrange(0xD800)) for _ in range(rng.choice((1, 10, 200))))
        yield Case("model answer", f"random letters, {k}", text.encode(), "parsed")
