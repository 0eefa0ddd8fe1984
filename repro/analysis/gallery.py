"""Figure 4: pairs about the same images from two rows' final data, drawn by a rule."""

import io
import random
from collections import defaultdict
from collections.abc import Sequence
from string import ascii_lowercase

import pandas as pd

from c3l.artifacts.store import Store
from c3l.samples import ImageFolder
from repro.analysis.differences import frames
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
    for stage in stages:
        if reason := store.metadata(stage).get("unscored"):
            return record | {"unscored": reason}, {}
    groups = pick_pairs(frames([stages], store)[0], seed)
    if not groups:
        return record | {"unscored": "no image has such pairs in both data sets"}, {}
    verdicts = [_verdicts(cells[label], store) for label in labels]
    images = ImageFolder(stages[0].inputs["scores"].inputs["images"].path)
    files = {}
    for letter, pairs in zip(ascii_lowercase, groups, strict=False):
        image, file = pairs[0]["image_id"], f"{name}/{letter}.png"
        images[image].save(buffer := io.BytesIO(), "PNG")
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


def pick_pairs(tables: Sequence[pd.DataFrame], seed: int, count: int = IMAGES) -> list[list[dict]]:
    """Pick a row of every table for each of `count` images, fewer where there are fewer.

    RULE says how: by the seed and the tables' contents, whatever their order.
    """
    groups = (f.sort_values("question_id").groupby(["image_id", "category"]) for f in tables)
    pairs_of_tables = [{k: pairs.to_dict("records") for k, pairs in group} for group in groups]
    classes: dict[str, list[str]] = defaultdict(list)
    for image, name in sorted(set.intersection(*map(set, pairs_of_tables))):
        classes[image].append(name)
    rng = random.Random(seed)
    images = rng.sample(list(classes), len(classes))
    picked = []
    for image in images[:count]:
        key = image, rng.choice(classes[image])
        picked.append([rng.choice(pairs[key]) for pairs in pairs_of_tables])
    return picked


def _verdicts(row: dict, store: Store) -> dict[str, str]:
    """The truth of the first data seed's samples by their ids, where it is known."""
    if TRUTH not in row:
        return {}
    ((frame,),) = frames([[row[TRUTH][0][0]]], store)
    return dict(zip(frame["question_id"], frame["verdict"], strict=True))
