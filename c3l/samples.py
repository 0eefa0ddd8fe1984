"""VLIT samples and their files: JSONL, JSON as others publish it, parquet; the image folder.

Readers are strict: what cannot be understood is an error that names file, place and field.
Writers are atomic: a file is the old one or the whole new one, never a part.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from c3l import layouts
from c3l.errors import ImageError, UserError
from c3l.instructions import CLASSES

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Sample:
    """A question about an image and its answer.

    `image` is a path relative to an ImageFolder. `instruction` is one of
    `c3l.instructions.CLASSES`, or "" for data of other origin. `meta` is JSON-like and travels
    with the sample unread.
    """

    id: str
    image: str
    question: str
    answer: str
    instruction: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


_FIELDS = tuple(f.name for f in fields(Sample))
_REQUIRED = ("id", "image", "question", "answer")
EXTRAS = ("caption", "i2c", "tokens", "unscored")
"""What is said of a generated or scored sample, in `meta`. In JSONL and parquet they may be fields
beside the sample's own (`c3l.scored`)."""


def read_samples(path: str | os.PathLike) -> list[Sample]:
    """The samples of a .jsonl, .json (a published layout) or .parquet file, in its order.

    The layouts of JSON, and how a conversation becomes one sample a turn: c3l.layouts. Raises
    UserError naming file, line or record, and field.
    """
    return [sample for record in read_records(path) for sample in record]


def read_records(path: str | os.PathLike) -> list[list[Sample]]:
    """As `read_samples`, the turns of each record together; in JSONL and parquet all are single."""
    path = Path(path)
    reader = _by_suffix(path, _READERS)
    try:
        return reader(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a file of samples") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error


def write_samples(path: str | os.PathLike, samples: Iterable[Sample]) -> None:
    """Write samples in the format of the suffix, whole or not at all.

    In LLaVA JSON `meta` becomes further fields of the record, as `read_samples` found them.
    Raises UserError if the file cannot be written.
    """
    path = Path(path)
    writer = _by_suffix(path, _WRITERS)
    samples = list(samples)
    try:
        # In the same folder, because only a rename within one file system is atomic.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
    try:
        with open(handle, "wb") as file:
            writer(file, samples)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a data set is for whom the umask says.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _by_suffix(path: Path, table: dict[str, Callable]) -> Callable:
    if path.suffix not in table:
        raise UserError(f"{path}: unknown format; use a name ending in {', '.join(table)}")
    return table[path.suffix]


def _sample(record: Any, where: str) -> Sample:
    """A checked sample from a mapping of its fields."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected an object with the fields {', '.join(_FIELDS)}")
    extras = {name: record[name] for name in EXTRAS if record.get(name) is not None}
    record = {name: value for name, value in record.items() if name not in EXTRAS}
    if extras and isinstance(record.get("meta", {}), dict):
        record["meta"] = record.get("meta", {}) | extras
    for name in record:
        if name not in _FIELDS:
            raise UserError(f"{where}, field {name}: unknown; put other fields into meta")
    for name in _REQUIRED:
        if name not in record:
            raise UserError(f"{where}, field {name}: missing")
    for name, value in record.items():
        expected = dict if name == "meta" else str
        if not isinstance(value, expected):
            raise UserError(f"{where}, field {name}: expected {expected.__name__}, got {value!r}")
        # JSON can spell half a surrogate pair, which no file and no tokenizer can hold.
        if expected is str and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UserError(f"{where}, field {name}: not valid Unicode")
    if record.get("instruction") not in (None, "", *CLASSES):
        raise UserError(f"{where}, field instruction: none of {', '.join(CLASSES)}")
    return Sample(**record)


def _read_jsonl(path: Path) -> list[list[Sample]]:
    records = []
    # Only "\n" ends a line: JSON strings may hold the other separators Python would split at.
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}, line {number}"
                records.append([_sample(_json(line, where), where)])
    return records


def _write_jsonl(file, samples: list[Sample]) -> None:
    for sample in samples:
        file.write(json.dumps(asdict(sample), ensure_ascii=False).encode() + b"\n")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from error


def _read_json(path: Path) -> list[list[Sample]]:
    records = _json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(records, list):
        raise UserError(f"{path}: expected a list of LLaVA records")
    found = []
    for number, record in enumerate(records, 1):
        where = f"{path}, record {number}"
        made = layouts.turns(record, number, path.stem, where)
        found.append([_sample(fields_, where) for fields_ in made])
    return found


def _write_llava(file, samples: list[Sample]) -> None:
    records = []
    for sample in samples:
        record = {
            "id": sample.id,
            "image": sample.image,
            "conversations": [
                {"from": "human", "value": f"{layouts.PLACEHOLDER}\n{sample.question}"},
                {"from": "gpt", "value": sample.answer},
            ],
        }
        if taken := record.keys() & sample.meta.keys():
            raise UserError(f"sample {sample.id}: meta may not hold {', '.join(sorted(taken))}")
        if sample.instruction:
            record["instruction"] = sample.instruction
        records.append(sample.meta | record)
    file.write(json.dumps(records, ensure_ascii=False, indent=1).encode() + b"\n")


def _read_parquet(path: Path) -> list[list[Sample]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path} is not a whole parquet file ({error})") from error
    records = []
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        if isinstance(row.get("meta"), str):
            row["meta"] = _json(row["meta"], f"{where}, field meta")
        records.append([_sample(row, where)])
    return records


def _write_parquet(file, samples: list[Sample]) -> None:
    import pyarrow
    import pyarrow.parquet

    # meta as JSON text: parquet wants one type a column, and meta is anything.
    rows = [asdict(sample) | {"meta": json.dumps(sample.meta)} for sample in samples]
    schema = pyarrow.schema([(name, pyarrow.string()) for name in _FIELDS])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file)


_READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
_WRITERS = {".jsonl": _write_jsonl, ".json": _write_llava, ".parquet": _write_parquet}


class ImageFolder:
    """The images below a folder, by their path relative to it: `folder["a/b.png"]`.

    Images are RGB, turned upright by their EXIF orientation; the last ones used are kept and
    shared, so do not draw on them.
    """

    def __init__(self, path: str | os.PathLike, cached: int = 256):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path} is no folder; give the folder that holds the images")
        self._cached_open = lru_cache(maxsize=cached)(self._open)

    def names(self) -> list[str]:
        """The relative paths of all files with an image's suffix, in sorted order."""
        return sorted(
            file.relative_to(self.path).as_posix()
            for file in self.path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )

    def __getitem__(self, name: str) -> Image.Image:
        return self._cached_open(name)

    def _open(self, name: str) -> Image.Image:
        # By name alone: links that the folder's owner placed in it may lead elsewhere.
        if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
            raise ImageError(
                f"image {name} lies outside {self.path}; use paths relative to it", "image_outside"
            )
        try:
            with Image.open(self.path / name) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except FileNotFoundError:
            raise ImageError(f"image {name} is missing from {self.path}", "image_missing") from None
        # Pillow's decoders raise all of these for damaged files.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(
                f"image {self.path / name} cannot be read ({error})", "image_unreadable"
            ) from error
