"""Figure 4: pairs about the same images from two rows' final data, drawn by a rule."""

import io
import random
from collections import defaultdict
from collections.abc import Sequence
from string import ascii_lowercase

import pandas as pd

from c3l.artifacts.store import Stage, Store
from c3l.samples import ImageFolder
from repro.recipe import Cells
from repro.rows import RELEVANCE, TRUTH

IMAGES = 4  # as in the paper's figure
RULE = (
    "The first {count} images of a shuffle (seed {seed}) of those about which both data sets have "
    "a scored pair of the same instruction class; of each image such a class and a pair of either "
    "data set, drawn with the same seed."
)


def build_gallery(
    name: str, cells: Cells, seed: int, store: Store
) -> tuple[dict, dict[str, bytes]]:
    """Return the record of the first and the last row's pairs, and the images by file name.

    The record has the `rule`, the `data_seed`, `images` (`file`, `image`, `class`, and `pairs`, one
    a row), and the reason in `unscored` if there are none. A pair has its `row`, `id`, `question`,
    `answer`, `i2c` (eq. 1), the answer's `pieces` with their `contributions` to it, and `verdict`
    (one of benchmarks.pocket.truth; None where the truth is not known). `seed` is the first data
    seed.
    """
    first, *_, last = cells
    labels = [first, last]
    stages = [cells[label][RELEVANCE[0]][0][0] for label in labels]
    record = {"rule": RULE.format(count=IMAGES, seed=seed), "data_seed": seed, "images": []}
    reasons = [store.metadata(stage).get("unscored") for stage in stages]
    if reason := next(filter(None, reasons), None):
        return record | {"unscored": reason}, {}
    groups = pick_pairs([_samples(stage, store) for stage in stages], seed)
    if not groups:
        return record | {"unscored": "no image has such pairs in both data sets"}, {}
    verdicts = [_verdicts(cells[label], store) for label in labels]
    images = ImageFolder(stages[0].inputs["scores"].inputs["images"].path)
    files = {}
    for letter, pairs in zip(ascii_lowercase, groups, strict=False):
        image, file = pairs[0]["image_id"], f"{name}/{letter}.png"
        buffer = io.BytesIO()
        images[image].save(buffer, "PNG")
        files[file] = buffer.getvalue()
        records = [
            {
                "row": label,
                "id": pair["question_id"],
                "question": pair["question"],
                "answer": pair["answer"],
                "i2c": round(pair["i2c"], 6),
                "pieces": list(pair["pieces"]),
                "contributions": [round(float(part), 6) for part in pair["contributions"]],
                "verdict": by_id.get(pair["question_id"]),
            }
            for label, pair, by_id in zip(labels, pairs, verdicts, strict=True)
        ]
        record["images"].append(
            {"file": file, "image": image, "class": pairs[0]["category"], "pairs": records}
        )
    return record | {"unscored": None}, files


def pick_pairs(frames: Sequence[pd.DataFrame], seed: int, count: int = IMAGES) -> list[list[dict]]:
    """Pick a row of every frame for each of `count` images, fewer where there are fewer.

    RULE says how: by the seed and the frames' contents, whatever their order.
    """
    pairs_of_frames = []
    for frame in frames:
        groups = frame.sort_values("question_id").groupby(["image_id", "category"])
        pairs_of_frames.append({key: group.to_dict("records") for key, group in groups})
    classes: dict[str, list[str]] = defaultdict(list)
    for image, name in sorted(set.intersection(*map(set, pairs_of_frames))):
        classes[image].append(name)
    rng = random.Random(seed)
    images = rng.sample(list(classes), len(classes))
    picked = []
    for image in images[:count]:
        key = image, rng.choice(classes[image])
        picked.append([rng.choice(pairs[key]) for pairs in pairs_of_frames])
    return picked


def _samples(stage: Stage, store: Store) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(store.read(stage, "samples.parquet")))


def _verdicts(row: dict, store: Store) -> dict[str, str]:
    """The truth of the first data seed's samples by their ids, where it is known."""
    if TRUTH not in row:
        return {}
    frame = _samples(row[TRUTH][0][0], store)
    return dict(zip(frame["question_id"], frame["verdict"], strict=True))
