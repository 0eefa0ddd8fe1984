"""Three ways to I²C scores of the same samples: one by one, in padded batches, packed."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.pocket.scenes import COLOURS, KINDS, PLACES, SETTINGS, SIGNS, SIZES
from c3l.backbones.base import Backbone
from c3l.relevance import Score, i2c, score
from c3l.samples import ImageFolder, Sample
from c3l.scores import ARRAYS

BATCH = 16
TOLERANCE = 1e-4
_WORDS = (*KINDS, *COLOURS, *SIZES, *PLACES, *SIGNS, *" ".join(SETTINGS).split())
_WORDS += ("the", "a", "is", "are", "of", "and", "there", "it", "stands", "looks", "which", "what")


@dataclass(frozen=True)
class Workload:
    """Samples, all with different texts, and the folder of their images."""

    folder: Path
    samples: list[Sample]


LENGTHS = {
    # Means of 10 and 13 words: the questions of the paper's figure 4, the answers of its table 2.
    "the paper's": ((8, 12), (9, 17)),
    # Means of 6 and 8: what the pocket backbone's pairs have.
    "the pocket world's": ((4, 8), (2, 14)),
}
"""Limits on the words of questions and of answers."""


def workload(
    folder: Path,
    images: int,
    samples_per_image: int = 8,
    seed: int = 0,
    lengths: str = "the paper's",
) -> Workload:
    """Write seeded 640 by 480 JPEGs to `folder`; `samples_per_image` samples about each.

    Questions and answers have the lengths LENGTHS[lengths]. Words are drawn from the pocket
    world's, one or two tokens each.
    """
    rng, noise = random.Random(seed), np.random.default_rng(seed)

    def text(shortest: int, longest: int, end: str) -> str:
        return " ".join(rng.choices(_WORDS, k=rng.randint(shortest, longest))).capitalize() + end

    question, answer = LENGTHS[lengths]
    samples = []
    for i in range(images):
        pixels = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        # Smooth like a photograph: a decoder is slower on noise at full size.
        picture = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i}.jpg", quality=90)
        samples += [
            Sample(f"{i}-{k}", f"{i}.jpg", text(*question, "?"), text(*answer, "."))
            for k in range(samples_per_image)
        ]
    return Workload(folder, samples)


def mean_tokens(backbone: Backbone, samples: Sequence[Sample], *, answers: bool = True) -> float:
    """Mean tokens of a question with its prompt format, and of its answer, without an image."""
    texts = [s.answer for s in samples] if answers else None
    batch = backbone.encode([s.question for s in samples], None, texts)
    return batch["attention_mask"].sum(1).float().mean().item()


def one_by_one(backbone: Backbone, load: Workload) -> list[Score]:
    """Each sample by itself: its picture opened and prepared, scored with it and without."""
    images = ImageFolder(load.folder, memory=0)
    return [one for s in load.samples for one in _score_batch(backbone, [s], images)]


def padded_batches(backbone: Backbone, load: Workload) -> list[Score]:
    """Batches of BATCH samples of like length, padded; a picture opened once, prepared for each."""
    images = ImageFolder(load.folder)
    order = sorted(load.samples, key=lambda s: len(s.question) + len(s.answer))
    scores = {
        one.id: one
        for start in range(0, len(order), BATCH)
        for one in _score_batch(backbone, order[start : start + BATCH], images)
    }
    return [scores[sample.id] for sample in load.samples]


def packed(backbone: Backbone, load: Workload) -> list[Score]:
    """`c3l.relevance.score`, as the pipeline calls it."""
    return score(backbone, load.samples, ImageFolder(load.folder), batch_size=BATCH)


WAYS: dict[str, Callable[[Backbone, Workload], list[Score]]] = {
    "one by one": one_by_one,
    "padded batches": padded_batches,
    "packed": packed,
}


@torch.inference_mode()
def _score_batch(backbone: Backbone, samples: Sequence[Sample], images: ImageFolder) -> list[Score]:
    """The scores of one batch, independent of c3l.relevance.score as a reference for it."""
    questions, answers = [s.question for s in samples], [s.answer for s in samples]
    pictures = [images[s.image] for s in samples]
    visual = _log_probabilities(backbone, questions, pictures, answers)
    direct = _log_probabilities(backbone, questions, None, answers)
    scores = []
    for sample, (logp, tokens), (logq, _) in zip(samples, visual, direct, strict=True):
        token_logps = [x.gather(1, tokens[:, None]).T for x in (logp, logq)]
        kl = F.kl_div(logq, logp, log_target=True, reduction="none").sum(1).clamp(min=0)
        arrays = [x.cpu().numpy() for x in (token_logps[0][0], token_logps[1][0], kl)]
        scores.append(Score(sample.id, i2c(*token_logps).item(), *arrays))
    return scores


def _log_probabilities(
    backbone: Backbone, questions: list[str], pictures: list | None, answers: list[str]
) -> list[tuple[Tensor, Tensor]]:
    """Each answer's distributions [tokens, vocabulary] in float32, and its tokens."""
    batch = backbone.encode(questions, pictures, answers)
    mask = batch.pop("answer_mask").bool()
    del batch["labels"]
    first = int(mask.any(0).nonzero()[0])
    count = mask.shape[1] - first + 1
    logits = backbone.model(**batch, logits_to_keep=count, use_cache=False).logits[:, :-1]
    tail, lengths = mask[:, first:], mask.sum(1).tolist()
    logp = F.log_softmax(logits[tail].float(), dim=-1).split(lengths)
    return list(zip(logp, batch["input_ids"][:, first:][tail].split(lengths), strict=True))


@dataclass(frozen=True)
class Timing:
    """One way's medians over the rounds, in seconds for the whole workload."""

    wall: float
    process: float
    difference: float
    """Largest difference of a log-probability or divergence from those of one by one."""


def compare_ways(backbone: Backbone, load: Workload, rounds: int = 5) -> dict[str, Timing]:
    """Time every way. Rounds take the ways in turn, so that a slow spell slows all of them.

    Before that each runs once: to warm up, and to be compared. Raises RuntimeError if a way is off
    by more than TOLERANCE in float32; in shorter types the difference is only reported.
    """
    results = {name: way(backbone, load) for name, way in WAYS.items()}
    reference = results["one by one"]
    differences = {name: largest_difference(scores, reference) for name, scores in results.items()}
    for name, difference in differences.items():
        # Written so that NaN fails.
        if backbone.dtype == torch.float32 and not difference <= TOLERANCE:
            raise RuntimeError(f"{name} differs from one by one by {difference:.1e}")
    del results, reference
    seconds = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            seconds[name].append(clock(lambda way=way: way(backbone, load), backbone.device))
    return {
        name: Timing(*(median(column) for column in zip(*times, strict=True)), differences[name])
        for name, times in seconds.items()
    }


def largest_difference(scores: list[Score], reference: list[Score]) -> float:
    """The largest difference of a token's log-probability or divergence between two scorings."""
    assert [s.id for s in scores] == [s.id for s in reference]
    pairs = list(zip(scores, reference, strict=True))
    gaps = [np.abs(getattr(a, name) - getattr(b, name)).max() for a, b in pairs for name in ARRAYS]
    return float(np.max(gaps))  # keeps a NaN, Python's would lose it


def clock(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds on the wall and of the process, the device's queue emptied before and after."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    wall, process = time.perf_counter(), time.process_time()
    run()
    synchronize()
    return time.perf_counter() - wall, time.process_time() - process
