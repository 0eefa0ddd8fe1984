"""Real images and benchmarks, laid out as the pocket world is: what `data` of a profile names.

    initial/images, final/images   two seeded draws from COCO train2014 that share no image
    benchmarks/<task>              the data sets that lmms-eval names, from the Hub or its cache

All of it are links; `data.json` beside them says what was drawn and which revisions there are.
POPE's images are of COCO val2014, so none is in the draws.
"""

import json
import os
import random
import tempfile
from pathlib import Path

from c3l.runtime.errors import UserError

COCO = "COCO_train2014_*.jpg"
COCO_IMAGES = 82_783
DATASETS = {
    "seedbench": "lmms-lab/SEED-Bench",
    "pope": "lmms-lab/POPE",
    "mmbench": "lmms-lab/MMBench",
    "llava_w": "lmms-lab/llava-bench-in-the-wild",
}


def link_data(coco: Path, out: Path, *, initial: int, final: int, seed: int) -> dict:
    """Make the folder `out`, whole or not at all; what `data.json` says.

    `coco` holds all of train2014: from less, the same seed would draw other images. Raises
    UserError for another folder, a data set that cannot be had, or an `out` that is there.
    """
    if out.exists():
        raise UserError(f"{out} is there already: give another folder, or remove it first.")
    drawn = draw_images(coco, initial, final, seed)
    benchmarks = {name: fetch_dataset(dataset) for name, dataset in DATASETS.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        work = Path(folder) / "data"
        for part, names in drawn.items():
            (work / part / "images").mkdir(parents=True)
            for name in names:
                (work / part / "images" / name).symlink_to(coco.resolve() / name)
        (work / "benchmarks").mkdir()
        for name, place in benchmarks.items():
            (work / "benchmarks" / name).symlink_to(place, target_is_directory=True)
        said = {
            "images": "COCO train2014",
            "seed": seed,
            **{part: len(names) for part, names in drawn.items()},
            "benchmarks": {
                name: f"{DATASETS[name]}@{place.name}" for name, place in benchmarks.items()
            },
        }
        (work / "data.json").write_text(json.dumps(said, indent=1) + "\n")
        os.rename(work, out)
    return said


def draw_images(coco: Path, initial: int, final: int, seed: int) -> dict[str, list[str]]:
    """The names of the initial and of the final images. Raises UserError for another folder."""
    names = sorted(path.name for path in coco.glob(COCO))
    if len(names) != COCO_IMAGES:
        found = f"{len(names):,} of {COCO_IMAGES:,}" if names else "no"
        raise UserError(
            f"{coco} holds {found} images of COCO train2014 ({COCO}); give the unpacked folder of "
            "http://images.cocodataset.org/zips/train2014.zip (13 GB)."
        )
    if initial + final > len(names):
        raise UserError(f"{initial:,} and {final:,} images are more than the {len(names):,} there.")
    chosen = random.Random(seed).sample(names, initial + final)
    return {"initial": sorted(chosen[:initial]), "final": sorted(chosen[initial:])}


def fetch_dataset(dataset: str) -> Path:
    """A data set's folder in the Hub's cache, named by its revision; fetched if it is not there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                dataset, repo_type="dataset", allow_patterns=["README.md", "*.parquet"]
            )
        )
    # Whatever the network, the Hub or its cache raise: the remedy is the same.
    except Exception as error:
        raise UserError(
            f"The data set {dataset} is not in the Hub's cache and could not be fetched "
            f"({type(error).__name__}): check the connection, or fill the cache by "
            f"`hf download --repo-type dataset {dataset}` where there is one."
        ) from error
