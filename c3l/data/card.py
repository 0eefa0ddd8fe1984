"""The card of a generated data set: what is in it, and how it was made, as the Hub reads it."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean, median
from typing import Any

import yaml
from tabulate import tabulate

from c3l.readings import Readings
from c3l.runtime.overrides import values_of
from c3l.samples import Sample
from c3l.settings import MethodSettings

BINS = 10
WIDTH = 40  # of the histogram's longest bar, in letters


@dataclass(frozen=True)
class DatasetInfo:
    """The making of a data set."""

    backbone: str
    digest: str
    """sha256 of the backbone's files."""
    images: int
    """Images that were written about."""
    initial_images: int
    trained: Mapping[str, Any] | None
    """The metrics of the generator's training; None without one."""
    shared_images: int
    """Images of both the initial and these data."""
    requested: int
    dropped: Mapping[str, int]
    """Samples and pieces of text that are not in the data, by reason."""
    settings: MethodSettings
    seed: int
    versions: Mapping[str, str]
    unreadable: Mapping[str, int]
    """Images left out, by reason."""


def dataset_card(samples: Sequence[Sample], making: DatasetInfo) -> str:
    """Return the README.md of a data set in data.parquet, data.jsonl and data.json."""
    writer = f"a generator trained from `{making.backbone}`"
    if making.trained is None:
        writer = f"`{making.backbone}`, without further training"
    front = {
        "configs": [{"config_name": "default", "data_files": "data.parquet"}],
        "task_categories": ["visual-question-answering"],
        "tags": ["vision-language-instruction-tuning", "synthetic", "c3l"],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# Vision-language instruction data made with C³L",
        f"{len(samples):,} questions with answers about {len({s.image for s in samples}):,} images,"
        f" written by {writer}, each with its I²C score under the backbone: how much the "
        "image changes the probability of the answer (Ma et al., IJCAI 2024, eq. 1).",
        FILES,
        "## Counts",
        _table(["class", "samples"], Counter(sample.instruction for sample in samples)),
        _counts(len(samples), making),
        "## I²C",
        _histogram(samples),
        "## Lengths",
        _lengths(samples),
        "## Examples",
        *_examples(samples),
        "## How it was made",
        _made(making),
        "## Licence",
        "*To be filled in by whoever publishes these data: the licence of the images (they are not "
        "part of the data set), what the backbone's licence says of its output, and the licence "
        "of the texts; then add `license:` to the head of this file.*",
    ]
    return "\n\n".join(parts) + "\n"


FILES = """\
| file | what it holds |
|---|---|
| `data.parquet` | one row a sample: `id`, `image`, `question`, `answer`, `instruction` (its \
class), `caption` (of the image, by the generator), `i2c`, `tokens` (of the answer), `unscored` \
(why there is no score) |
| `data.jsonl` | the same, one line a sample |
| `data.json` | the same as LLaVA's conversations |
| `left_out.jsonl` | what is not in the data, where there is anything: its name, its place, why |

`image` is a path relative to the folder that the images were in. `datasets.load_dataset` on this \
folder reads `data.parquet`."""


def _table(head: list[str], counts: Mapping[str, int]) -> str:
    return tabulate(sorted(counts.items()), head, tablefmt="pipe")


def _counts(count: int, making: DatasetInfo) -> str:
    lines = [f"{making.requested:,} were requested, {count:,} are here."]
    if making.dropped:
        lines += ["Not in the data, by reason:", _table(["reason", "count"], making.dropped)]
    if making.unreadable:
        lines += ["Images left out:", _table(["reason", "images"], making.unreadable)]
    return "\n\n".join(lines)


def _histogram(samples: Sequence[Sample]) -> str:
    values = [sample.meta["i2c"] for sample in samples if "i2c" in sample.meta]
    if not values:
        return "No sample has a score."
    low, high = min(values), max(values)
    step = (high - low) / BINS or 1.0
    counts = Counter(min(int((value - low) / step), BINS - 1) for value in values)
    bars = ["█" * math.ceil(WIDTH * counts[k] / max(counts.values())) for k in range(BINS)]
    lines = [
        f"{low + k * step:9.2f} to {low + (k + 1) * step:9.2f}  {counts[k]:7,}  {bar}".rstrip()
        for k, bar in enumerate(bars)
    ]
    without = len(samples) - len(values)
    words = f"Mean {mean(values):.2f}, median {median(values):.2f}"
    words += f"; {without:,} samples have no score." if without else "."
    return "\n".join([words, "", "```", *lines, "```"])


def _lengths(samples: Sequence[Sample]) -> str:
    lengths = {
        "words of a question": [len(s.question.split()) for s in samples],
        "words of an answer": [len(s.answer.split()) for s in samples],
        "tokens of an answer": [s.meta["tokens"] for s in samples if "tokens" in s.meta],
    }
    rows = [[k, f"{mean(v):.1f}", min(v), median(v), max(v)] for k, v in lengths.items() if v]
    return tabulate(rows, ["", "mean", "least", "median", "most"], tablefmt="pipe")


def _examples(samples: Sequence[Sample]) -> list[str]:
    """Return the sample of median score in each class."""
    parts = []
    scored = [sample for sample in samples if "i2c" in sample.meta]
    scored.sort(key=lambda s: (s.instruction, s.meta["i2c"], s.id))
    for name, group in groupby(scored, key=lambda s: s.instruction):
        one = (members := list(group))[len(members) // 2]
        parts.append(f"{name} (`{one.image}`, I²C {one.meta['i2c']:.2f}, its class's median):")
        parts.append(f"> Question: {_line(one.question)}\n>\n> Answer: {_line(one.answer)}")
    return parts or ["No sample has a score."]


def _line(text: str) -> str:
    """Return a text as one line of a quotation, with its markup escaped."""
    return " ".join(re.sub(r"[\\`*_<>\[\]#|]", r"\\\g<0>", text).split())


def _made(making: DatasetInfo) -> str:
    steps = [f"Backbone: `{making.backbone}`, sha256 of its files `{making.digest}`."]
    if making.trained is not None:
        steps.append(
            f"Initial data about {making.initial_images:,} images; the generator trained on them "
            f"by L_r + λ·L_c in {making.trained['steps']:,} steps, mean loss "
            f"{making.trained['loss']:.3f}."
        )
    else:
        steps.append("No training: the backbone as it is wrote the data.")
    also = f", {making.shared_images:,} of them initial ones too" if making.shared_images else ""
    steps.append(f"These data: about {making.images:,} images{also}. Seed {making.seed}.")
    steps.append(f"Made with {', '.join(map(' '.join, making.versions.items()))}.")
    default = Readings()
    rows = [
        [f"`{name}`", f"`{value}`", "" if value == getattr(default, name) else "changed"]
        for name, value in making.settings.readings
    ]
    sizes = {
        f"{part}.{name}": value
        for part in ("generation", "training")
        for name, value in values_of(getattr(making.settings, part)).items()
    } | {"share": making.settings.share}
    sizes_rows = [[f"`{k}`", f"`{v}`"] for k, v in sizes.items()]
    parts = ["\n".join(f"- {step}" for step in steps), "Readings (where the paper is open):"]
    parts += [tabulate(rows, ["reading", "value", ""], "pipe"), "Settings:"]
    return "\n\n".join([*parts, tabulate(sizes_rows, ["setting", "value"], "pipe")])
