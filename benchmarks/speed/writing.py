"""Writing with the pocket backbone, beside transformers' own decoding loop, in one CPU thread.

The work and settings are the pocket profile's: captions of 200 images, then question-answer pairs
of each class from each caption. `python -m benchmarks.speed.writing` prints a markdown table.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from tabulate import tabulate

from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import draw_scenes
from c3l.backbones import Backbone, load_backbone
from c3l.instructions import CLASSES, caption_prompt, pair_prompt_from_caption

FOLDER = Path(__file__).parents[1] / "pocket" / "backbones" / "llava-7b"
ROUNDS, IMAGES, BATCH = 5, 200, 64

Writer = Callable[..., list[str]]
"""Questions, their images or None, and `Backbone.generate`'s settings to texts."""


def measure_writing(rounds: int = ROUNDS, images: int = IMAGES) -> str:
    """Time both ways in turn, `rounds` times: a table of medians and the ratio of CPU times."""
    torch.set_num_threads(1)
    backbone = load_backbone(FOLDER, device="cpu")
    pictures = [draw(scene) for scene in draw_scenes(0, "initial", images)]
    ways = {"transformers": partial(write_whole_batches, backbone), "c3l": backbone.generate}
    times: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    captions: dict[str, list[str]] = {}
    for write in ways.values():  # first calls are slower
        _write(write, pictures[:2])
    for _ in range(rounds):
        for way, write in ways.items():
            seconds, captions[way] = _write(write, pictures)
            times[way].append((*seconds, sum(seconds)))
    rows = [[way, *map(median, zip(*times[way], strict=True))] for way in ways]
    rows += [["times as fast", *(a / b for a, b in zip(rows[0][1:], rows[1][1:], strict=True))]]
    table = tabulate(rows, ["", "captions", "pairs", "both"], tablefmt="pipe", floatfmt=".2f")
    pairs = zip(captions["transformers"], captions["c3l"], strict=True)
    same = sum(a == b for a, b in pairs)
    return f"CPU seconds, medians of {rounds}:\n\n{table}\n\n{same} of {images} captions are equal."


def write_whole_batches(
    backbone: Backbone,
    questions: Sequence[str],
    images: Sequence[Image.Image] | None,
    *,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
) -> list[str]:
    """Write as transformers does: a batch runs until its longest text ends."""
    sampling: dict[str, object] = {"do_sample": temperature > 0}
    if temperature > 0:
        sampling |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
    texts = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda i: -len(questions[i]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        pictures = images and [images[i] for i in rows]
        batch = backbone.encode([questions[i] for i in rows], pictures, side="left")
        inputs = backbone._model_inputs(batch)
        tokens = backbone.model.generate(**inputs, max_new_tokens=max_new_tokens, **sampling)
        for i, row in zip(rows, tokens.tolist(), strict=True):
            texts[i] = backbone._read(row, ()).text
    return texts


@torch.no_grad()
def _write(write: Writer, pictures: list[Image.Image]) -> tuple[tuple[float, float], list[str]]:
    """CPU seconds of captions and of pairs, and the captions."""
    torch.manual_seed(0)
    start = time.process_time()
    asked = [caption_prompt()] * len(pictures)
    captions = write(asked, pictures, max_new_tokens=96, batch_size=BATCH)
    middle = time.process_time()
    prompts = [pair_prompt_from_caption(kind, 3, text) for text in captions for kind in CLASSES]
    sampling = {"temperature": 0.7, "top_p": 0.9}
    write(prompts, None, max_new_tokens=160, batch_size=BATCH, **sampling)
    return (middle - start, time.process_time() - middle), captions


if __name__ == "__main__":
    print(measure_writing())
