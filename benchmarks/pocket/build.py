"""Write the pocket world's data to a folder: images with graphs, and the four benchmarks."""

import json
from pathlib import Path

from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import Scene, draw_scenes

INITIAL_IMAGES = 400
FINAL_IMAGES = 400
BENCHMARK_SCENES = 420


def build(folder: Path, seed: int = 0) -> None:
    """Write `initial/` and `final/` (images/*.png, graphs.jsonl) and `benchmarks/<task>/`.

    The same seed gives the same bytes. Takes a few seconds.
    """
    folder = Path(folder)
    write_images(folder / "initial", draw_scenes(seed, "initial", INITIAL_IMAGES))
    write_images(folder / "final", draw_scenes(seed, "final", FINAL_IMAGES))
    write_benchmarks(folder / "benchmarks", seed)


def write_images(folder: Path, scenes: list[Scene], prefix: str = "scene") -> None:
    """The scenes' pictures and, in graphs.jsonl, a line for each: its image and its graph."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for index, scene in enumerate(scenes):
        name = f"{prefix}-{index:04d}.png"
        draw(scene).save(folder / "images" / name)
        lines.append(json.dumps({"image": name, **scene.to_dict()}))
    (folder / "graphs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_benchmarks(folder: Path, seed: int) -> None:
    """SEED, POPE, MMB dev and LLaVA^W as parquet in the columns of the published data sets."""
    from datasets import Image, Sequence, Value  # two seconds: not for who only wants scenes

    from benchmarks.pocket import questions

    scenes = draw_scenes(seed, "benchmark", BENCHMARK_SCENES)
    picture, whole = Image(), Value("int64")
    seed_types = {
        "image": Sequence(picture),
        "segment": Sequence(whole),
        "question_type_id": whole,
    }
    _write(folder / "seedbench", questions.seed_rows(seed, scenes), seed_types, "test")
    _write(folder / "pope", questions.pope_rows(seed, scenes), {"image": picture}, "test")
    mmb_types = {"image": picture, "index": whole}
    _write(folder / "mmbench", questions.mmb_rows(seed, scenes), mmb_types, "dev", "en")
    wild_types = {"image": picture, "question_id": whole}
    _write(folder / "llava_w", questions.wild_rows(seed, scenes), wild_types, "train")


def _write(
    folder: Path, rows: list[dict], types: dict, split: str, config: str = "default"
) -> None:
    """One parquet file and the README.md that names its configuration and split."""
    from datasets import Dataset, Features, Value

    features = Features({name: types.get(name, Value("string")) for name in rows[0]})
    folder.mkdir(parents=True)
    name = f"{split}-00000-of-00001.parquet"
    Dataset.from_list(rows, features).to_parquet(folder / name)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config}\n  data_files:\n"
        f"  - split: {split}\n    path: {name}\n---\n",
        encoding="utf-8",
    )
