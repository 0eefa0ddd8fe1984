"""The paper's four benchmarks as lmms-eval tasks that read a local folder.

Prompting, parsing and aggregation stay lmms-eval's own: each task is its YAML with another name and
another place of the data.
"""

from pathlib import Path

import lmms_eval.tasks
import pyarrow.parquet
from datasets import Dataset
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.utils import load_yaml_config
from PIL import ImageFile
from tenacity import RetryError

from benchmarks.sources import TASKS
from c3l.runtime.errors import UserError

# lmms-eval tells PIL, for the whole process, to fill cut images with grey. A damaged image has to
# fail, here as everywhere else.
ImageFile.LOAD_TRUNCATED_IMAGES = False

# SEED's question_type_id; 10 to 12 are video.
SEED_DIMENSIONS = {
    1: "Scene Understanding",
    2: "Instance Identity",
    3: "Instance Attributes",
    4: "Instance Location",
    5: "Instances Counting",
    6: "Spatial Relation",
    7: "Instance Interaction",
    8: "Visual Reasoning",
    9: "Text Understanding",
}


def image_rows(rows: Dataset) -> Dataset:
    """SEED without its video questions."""
    return rows.filter(lambda kind: kind == "image", input_columns="data_type")


def load_task(name: str, data_dir: Path, cache_dir: Path) -> ConfigurableTask:
    """lmms-eval's task `name` (a key of TASKS) over the data set in `data_dir`.

    Args:
        data_dir: a folder of parquet files in the columns of the data set that lmms-eval names,
            with a README.md where the task asks for a named configuration (MMBench's "en").
        cache_dir: where the rows are unpacked. A new folder each time: the cache of `datasets`
            is keyed by paths and times of change, and a test set must never come from a stale one.

    Raises:
        UserError: no such task, or a data set that cannot be read.
    """
    if name not in TASKS:
        raise UserError(f"There is no benchmark {name!r}; there are {', '.join(TASKS)}.")
    data_dir = Path(data_dir).resolve()
    files = sorted(data_dir.rglob("*.parquet"))
    if not files:
        raise UserError(f"No parquet files for {name} in {data_dir}.")
    for file in files:  # before lmms-eval tries a damaged one five times
        try:
            pyarrow.parquet.read_metadata(file)
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"{file} cannot be read as parquet: {error}") from error
    source = TASKS[name]
    config = load_yaml_config(str(Path(lmms_eval.tasks.__file__).parent / source.yaml))
    config["task"] = f"c3l_{name}"
    config["dataset_path"] = str(data_dir)
    config["dataset_kwargs"] = {"cache_dir": str(cache_dir)}
    if source.seed_images_only:
        config["process_docs"] = image_rows
    try:
        return ConfigurableTask(config=config)
    except RetryError as error:
        cause = error.last_attempt.exception()
        raise UserError(f"The data set of {name} in {data_dir} cannot be read: {cause}") from cause
    except (IndexError, KeyError) as error:
        raise UserError(
            f"The data set of {name} in {data_dir} has no rows or lacks a column: {error}"
        ) from error
