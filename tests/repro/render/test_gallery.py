"""Figure 4 as markdown: what stands there, and that generated text means nothing to markdown."""

import pytest

from repro.render import gallery


@pytest.fixture
def record() -> dict:
    pair = {
        "row": "without C³L",
        "id": "7-c-0",
        "question": "What is\n<b>it</b>?",
        "answer": "A *red* cup.",
        "i2c": 0.416,
        "pieces": ["A", " *red*", " ", "", "cup."],
        "contributions": [-0.002, 0.4, 0.01, 0.0, 0.008],
        "verdict": "no_image",
    }
    image = {"file": "figure4/a.png", "image": "scene_7.png", "class": "conversation"}
    image["pairs"] = [pair, pair | {"row": "with C³L", "i2c": 1.5, "verdict": None}]
    return {"rule": "By lot.", "data_seed": 0, "images": [image], "unscored": None}


def test_an_image_stands_with_its_pairs(record):
    text = gallery.render_gallery(record)
    assert text.startswith("By lot. The pairs are of data seed 0.")
    assert '<img src="figure4/a.png" width="240" alt="image (a)">' in text
    assert "**(a)** scene\\_7.png, conversation" in text
    assert "*without C³L*: I²C 0.42; true, but needs no image\n" in text
    assert "*with C³L*: I²C 1.50\n" in text


def test_every_token_stands_with_what_it_adds(record):
    line = next(
        x for x in gallery.render_gallery(record).splitlines() if x.startswith("- by token: ")
    )
    assert line == "- by token: A +0.00 · \\*red\\* +0.40 · ␣ +0.01 · ␣ +0.00 · cup. +0.01"


def test_generated_text_is_no_markup(record):
    text = gallery.render_gallery(record)
    assert "- Q: What is \\<b\\>it\\</b\\>?\n" in text
    assert "- A: A \\*red\\* cup.\n" in text


def test_without_pairs_it_says_why(record):
    empty = record | {"images": [], "unscored": "the generator wrote no valid pair"}
    assert gallery.render_gallery(empty) == "No pairs to show: the generator wrote no valid pair."
