"""Real images and benchmarks, laid out like the pocket world: a profile's `data` names the folder.

    initial/images, final/images   two seeded draws from COCO train2014 that share no image
    benchmarks/<task>              the data sets that lmms-eval names, from the Hub or its cache

All of it are links. `data.json` beside them records what was drawn and the data sets' revisions.
POPE's images are of COCO val2014, so none is in the draws.
"""

import json
import os
import random
import tempfile
from pathlib import Path

from benchmarks import BENCHMARKS
from c3l.runtime.errors import UserError

COCO = "COCO_train2014_*.jpg"
COCO_IMAGES = 82_783


def data_sets() -> dict[str, str]:
    """The benchmarks' data sets on the Hub, by their folder."""
    return {b.folder or name: b.data_set for name, b in BENCHMARKS.items() if b.data_set}


def link_data(coco: Path, out: Path, *, initial: int, final: int, seed: int) -> dict:
    """Make the folder `out`, whole or not at all, and return what `data.json` records.

    `coco` holds all of train2014: from less, the same seed would draw other images. Raises
    UserError for another folder, a data set that cannot be fetched, or an `out` that exists.
    """
    if out.exists():
        raise UserError(f"{out} is there already: give another folder, or remove it first.")
    parts = draw_images(coco, initial, final, seed)
    data_set_names = data_sets()
    snapshots = {name: fetch_dataset(data_set) for name, data_set in data_set_names.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        work = Path(folder) / "data"
        for part, names in parts.items():
            (work / part / "images").mkdir(parents=True)
            for name in names:
                (work / part / "images" / name).symlink_to(coco.resolve() / name)
        (work / "benchmarks").mkdir()
        for name, snapshot in snapshots.items():
            (work / "benchmarks" / name).symlink_to(snapshot, target_is_directory=True)
        record = {
            "images": "COCO train2014",
            "seed": seed,
            **{part: len(names) for part, names in parts.items()},
            "benchmarks": {
                name: f"{data_set_names[name]}@{snapshot.name}"
                for name, snapshot in snapshots.items()
            },
        }
        (work / "data.json").write_text(json.dumps(record, indent=1) + "\n")
        os.rename(work, out)
    return record


def draw_images(coco: Path, initial: int, final: int, seed: int) -> dict[str, list[str]]:
    """Draw the names of the initial and the final images. Raises UserError for another folder."""
    names = sorted(path.name for path in coco.glob(COCO))
    if len(names) != COCO_IMAGES:
        count = f"{len(names):,} of {COCO_IMAGES:,}" if names else "no"
        raise UserError(
            f"{coco} holds {count} images of COCO train2014 ({COCO}); give the unpacked folder of "
            "http://images.cocodataset.org/zips/train2014.zip (13 GB)."
        )
    if initial + final > len(names):
        raise UserError(f"{initial:,} and {final:,} images are more than the {len(names):,} there.")
    sample = random.Random(seed).sample(names, initial + final)
    return {"initial": sorted(sample[:initial]), "final": sorted(sample[initial:])}


def fetch_dataset(name: str) -> Path:
    """A data set's folder in the Hub's cache, named by its revision; fetched if it is not there."""
    from huggingface_hub import snapshot_download

    try:
        patterns = ["README.md", "*.parquet"]
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    # Whatever the network, the Hub or its cache raise: the remedy is the same.
    except Exception as error:
        raise UserError(
            f"The data set {name} is not in the Hub's cache and could not be fetched "
            f"({type(error).__name__}): check the connection, or fill the cache by "
            f"`hf download --repo-type dataset {name}` where there is one."
        ) from error
