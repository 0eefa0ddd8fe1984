"""A tiny LLaVA that has learnt to write: one caption, and two pairs for each instruction class."""

import numpy as np
import pytest
import torch
from PIL import Image

from c3l.instructions import CLASSES, caption_prompt, format_pair, pair_prompt_from_caption
from tests.repro import toy

CAPTION = "A cup."
PAIRS = {
    "conversation": [("What is it?", "A cup."), ("Is it red?", "Yes.")],
    "detailed description": [("Describe it for me.", "Red."), ("How does it look?", "Old.")],
    "complex reasoning": [("Why is it here?", "To drink."), ("Who may use it?", "A man.")],
}


@pytest.fixture(scope="session")
def writer(tiny_llava, tmp_path_factory):
    """The folder of a backbone that captions every image "A cup." and writes PAIRS from it."""
    from c3l.backbones import load_backbone

    backbone = load_backbone(tiny_llava, dtype="float16")  # so it is saved, as published ones are
    prompts = [pair_prompt_from_caption(name, 2, CAPTION) for name in CLASSES]
    answers = ["\n".join(format_pair(*pair) for pair in PAIRS[name]) for name in CLASSES]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 24, 24, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    batches = [
        backbone.encode(prompts, None, answers),
        backbone.encode([caption_prompt()] * 4, pictures, [CAPTION] * 4),
    ]
    backbone.trainable("full")
    backbone.model.train()
    optimizer = torch.optim.AdamW(backbone.model.parameters(), lr=3e-3)
    for _ in range(1000):
        losses = []
        for batch in batches:
            inputs = {k: v for k, v in batch.items() if k != "answer_mask"}
            losses.append(backbone.model(**inputs).loss)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        if max(loss.item() for loss in losses) < 0.005:
            break
    backbone.model.eval()
    folder = tmp_path_factory.mktemp("writer") / "llava"
    backbone.save(folder)
    return folder


@pytest.fixture(scope="session")
def toy_profile(writer, tmp_path_factory):
    """A profile file of a run that takes seconds."""
    return toy.profile(tmp_path_factory.mktemp("toy"), writer)
