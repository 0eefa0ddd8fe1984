"""Figure 4 as markdown, from the record of `repro.analysis.gallery`."""

import re
from string import ascii_lowercase

VERDICTS = {
    "true_image": "true, and needs the image",
    "no_image": "true, but needs no image",
    "false": "false",
    "malformed": "not a question and answer of this world",
}


def render_gallery(gallery: dict) -> str:
    """Render the rule, then each image with its pairs; its path is relative to the text's."""
    if gallery["unscored"]:
        return f"No pairs to show: {gallery['unscored']}."
    parts = [
        f"{gallery['rule']} The pairs are of data seed {gallery['data_seed']}.",
        "I²C is eq. 1 under the untouched backbone; behind it, what each token of the answer adds.",
    ]
    for letter, image in zip(ascii_lowercase, gallery["images"], strict=False):
        tag = f'<img src="{image["file"]}" width="240" alt="image ({letter})">'
        parts += [f"**({letter})** {_plain(image['image'])}, {image['class']}", tag]
        parts += [_pair(pair) for pair in image["pairs"]]
    return "\n\n".join(parts)


def _pair(pair: dict) -> str:
    verdict = f"; {VERDICTS[pair['verdict']]}" if pair["verdict"] else ""
    tokens = " · ".join(
        f"{_plain(piece.strip()) or '␣'} {contribution:+z.2f}"
        for piece, contribution in zip(pair["pieces"], pair["contributions"], strict=True)
    )
    lines = [
        f"*{pair['row']}*: I²C {pair['i2c']:.2f}{verdict}",
        f"Q: {_plain(pair['question'])}",
        f"A: {_plain(pair['answer'])}",
        f"by token: {tokens}",
    ]
    return "\n".join([lines[0], "", *(f"- {line}" for line in lines[1:])])


def _plain(text: str) -> str:
    """Generated text on one line, its markdown escaped."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", " ".join(text.split()))
