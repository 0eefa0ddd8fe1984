"""I²C scores with the log-probabilities behind them, and their files."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from c3l.runtime.errors import UserError, printable, short_repr

ARRAYS = ("logp_visual", "logp_direct", "kl")
CONTENT = "content"
"""The column with a digest of what was scored."""

_none = partial(np.empty, 0, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Score:
    """A sample's score with the log-probabilities behind it.

    The arrays are float32, one entry for each token of the answer: log p^v_t and log p^d_t in
    nats, and the divergence KL(p^v ‖ p^d) over the whole vocabulary at that position. A sample that
    could not be scored has empty arrays, NaN, and the reason in `unscored`: "empty_answer",
    "longer_than_context", "not_finite" (the model's predictions are no numbers), "image_missing",
    "image_unreadable", "image_unsupported", "video", "image_too_large" or "image_outside".
    """

    id: str
    i2c: float = math.nan
    logp_visual: np.ndarray = field(default_factory=_none)
    logp_direct: np.ndarray = field(default_factory=_none)
    kl: np.ndarray = field(default_factory=_none)
    unscored: str | None = None


def unscored(scores: Sequence[Score]) -> dict[str, int]:
    """The number of samples without a score, by reason."""
    return dict(Counter(score.unscored for score in scores if score.unscored))


def to_record(score: Score) -> dict[str, Any]:
    """The score as JSON and parquet hold it: NaN is null, arrays are lists."""
    arrays = {name: getattr(score, name).tolist() for name in ARRAYS}
    return vars(score) | arrays | {"i2c": None if math.isnan(score.i2c) else score.i2c}


def from_record(record: Mapping[str, Any]) -> Score:
    """The inverse of `to_record`. Raises KeyError, TypeError or ValueError for another record."""
    arrays = {name: np.array(record[name], dtype=np.float32) for name in ARRAYS}
    if len({array.shape for array in arrays.values()}) > 1 or arrays["kl"].ndim != 1:
        raise ValueError(f"the tokens of {short_repr(record['id'])} do not match")
    i2c = math.nan if record["i2c"] is None else float(record["i2c"])
    return Score(**{**record, **arrays, "i2c": i2c})


def write_scores(
    path: str | os.PathLike, scores: Sequence[Score], contents: Sequence[str] | None = None
) -> None:
    """Write scores as parquet, one row a sample, in the columns of `Score`.

    `contents`, a digest of what was scored for each score, is one more column (`read_contents`).
    """
    import pyarrow.parquet

    tokens = pyarrow.list_(pyarrow.float32())
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("i2c", pyarrow.float64())]
        + [(name, tokens) for name in ARRAYS]
        + [("unscored", pyarrow.string())]
    )
    rows = [to_record(score) for score in scores]
    if contents is not None:
        schema = schema.append(pyarrow.field(CONTENT, pyarrow.string()))
        rows = [row | {CONTENT: content} for row, content in zip(rows, contents, strict=True)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def read_scores(path: str | os.PathLike) -> list[Score]:
    """Return the scores in a file of `write_scores`. Raises UserError for another file."""
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [from_record({k: v for k, v in row.items() if k != CONTENT}) for row in rows]
    except FileNotFoundError:
        raise UserError(f"{printable(str(path))} does not exist; give a file of scores") from None
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        file, reason = printable(str(path)), short_repr(str(error))
        raise UserError(f"{file} is no file of scores ({reason}); score again") from error


def read_contents(path: str | os.PathLike) -> list[str | None]:
    """Return the digest of what was scored for each row of a file; None if it has none."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    if CONTENT not in file.schema_arrow.names:
        return [None] * file.metadata.num_rows
    return file.read([CONTENT])[CONTENT].to_pylist()
