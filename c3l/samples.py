"""VLIT samples and their files: JSONL, JSON as others publish it, parquet.

`read_samples` is strict: an unreadable record is an error that names file, location and field.
`read_data` is for data as people have them: a record that is no sample is left out, with a reason.
Writers are atomic: a file is the old one or the complete new one, never a part.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from c3l.artifacts.files import atomic_path, digest, json_lines, json_list
from c3l.data import formats, layouts
from c3l.data.images import ImageFolder
from c3l.data.layouts import Unfit
from c3l.data.left_out import LeftOut
from c3l.instructions import CLASSES
from c3l.runtime import parsing
from c3l.runtime.errors import UserError, printable, writing

__all__ = ["Data", "ImageFolder", "Sample", "read_data", "read_records", "read_samples"]
__all__ += ["write_samples"]


@dataclass(frozen=True)
class Sample:
    """A question about an image and its answer.

    `image` is a path relative to an ImageFolder. `instruction` is one of
    `c3l.instructions.CLASSES`, or "" for data of other origin. `meta` is JSON-like and travels
    with the sample unread. `history` holds question and answer of each turn before this one in its
    conversation; the image stands in the first of them.
    """

    id: str
    image: str
    question: str
    answer: str
    instruction: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    history: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        # JSON has lists.
        object.__setattr__(self, "history", tuple(tuple(pair) for pair in self.history))


_FIELDS = tuple(f.name for f in fields(Sample))
_REQUIRED = ("id", "image", "question", "answer")
EXTRAS = ("caption", "i2c", "tokens", "unscored")
"""Fields of `meta` about a generated or scored sample. In JSONL and parquet they may stand beside
the sample's own fields (`c3l.data.scored`)."""


@dataclass(frozen=True)
class Turn:
    """A question with its answer in some data: a sample, or the reason why it is none."""

    id: str
    location: str
    sample: Sample | None = None
    reason: str = ""
    detail: str = ""
    """The fault, as the end of a message that begins with the location."""


@dataclass(frozen=True)
class Record:
    """A record of some data as it was read, and its turns; one that is no sample has one turn."""

    value: Any
    turns: list[Turn]
    own_layout: bool = False
    """True in the layout of `Sample`, False in a published one."""


@dataclass(frozen=True)
class Data:
    """Data as people have them: their samples, and the turns that are none."""

    name: str
    """The source, for sentences about it."""
    records: list[Record]
    images: Any = None
    """The `c3l.data.embedded.EmbeddedImages` of pictures inside the data, used like an ImageFolder,
    or None."""

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples, in the order of the data."""
        return [turn.sample for turn in self.turns if turn.sample]

    @cached_property
    def left_out(self) -> list[LeftOut]:
        """The turns that are no sample, in the order of the data."""
        return self.list_left_out(repeat(None))

    def list_left_out(self, reasons: Iterable[str | None]) -> list[LeftOut]:
        """Return the turns that are no sample and the samples with a reason, in their order.

        `reasons` has an entry for each sample: why it is not used, or None.
        """
        remaining = iter(reasons)
        whys = [(turn, next(remaining) if turn.sample else turn.reason) for turn in self.turns]
        return [LeftOut(turn.id, turn.location, why) for turn, why in whys if why]

    @property
    def turns(self) -> list[Turn]:
        """All turns: the samples and those left out."""
        return [turn for record in self.records for turn in record.turns]

    def pictures(self, folder: str | os.PathLike | None) -> ImageFolder:
        """Return the images that the samples name: from the data, else from the folder.

        Raises UserError without either.
        """
        if self.images is not None:
            return self.images.with_folder(folder)
        if folder is None:
            raise UserError(
                f"{printable(self.name)} holds no pictures; give their folder as --images"
            )
        return ImageFolder(folder)


def read_data(source: str | os.PathLike, *, strict: bool = False) -> Data:
    """Return the samples of a file, a `datasets` folder or a Hub id, and the records left out.

    The image placeholder (`<image>`) is removed from questions, whatever the format. With `strict`
    the first record that is no sample is an error. Raises UserError for an unreadable source, and
    if none of the records is a sample.
    """
    is_dataset = formats.is_dataset(source)
    raw = formats.read_dataset(str(source)) if is_dataset else formats.read_file(source, True)
    data = Data(raw.name, _read(raw, strict=strict), raw.images)
    if data.records and not data.samples:
        first = Counter(item.reason for item in data.left_out).most_common(1)[0][0]
        turn = next(turn for turn in data.turns if turn.reason == first)
        raise UserError(
            f"none of the {len(data.left_out):,} records of {printable(raw.name)} can be a sample, "
            f"most for {first} ({turn.location}{turn.detail}); see docs/scores.md for the layouts "
            "that are read"
        )
    return data


def read_samples(path: str | os.PathLike) -> list[Sample]:
    """The samples of a .jsonl, .json (a published layout) or .parquet file, in its order.

    `c3l.data.layouts` reads published layouts, and makes one sample of each turn of a conversation.
    Raises UserError naming file, line or record, and field.
    """
    return [sample for record in read_records(path) for sample in record]


def read_records(path: str | os.PathLike) -> list[list[Sample]]:
    """As `read_samples`, the turns of each record together."""
    records = _read(formats.read_file(path), strict=True, as_written=True)
    return [[turn.sample for turn in record.turns if turn.sample] for record in records]


def _read(raw: formats.Raw, *, strict: bool, as_written: bool = False) -> list[Record]:
    """With `as_written` questions in the layout of `Sample` keep their placeholders."""
    records = []
    for number, (place, value) in enumerate(raw.records, 1):
        own_layout = not raw.published and not layouts.is_published(value)
        own_layout = own_layout and (strict or _is_own_layout(value))
        name = f"{raw.stem}-{number}"
        turns = _own_turns(value, name, as_written) if own_layout else layouts.turns(value, name)
        results = []
        for k, turn in enumerate(turns, 1):
            location = f"{printable(Path(raw.name).name)}, {place}"
            location += f", turn {k}" if len(turns) > 1 else ""
            try:
                if turn.unfit:
                    raise turn.unfit
                sample = _sample(turn.values or {})
                if not as_written and not sample.image.strip():
                    raise Unfit("no_image", ", field image: empty")
                results.append(Turn(turn.id, location, sample))
            except Unfit as unfit:
                if strict:
                    raise UserError(f"{printable(raw.name)}, {place}{unfit}") from unfit
                results.append(Turn(turn.id, location, reason=unfit.reason, detail=str(unfit)))
        records.append(Record(value, results, own_layout))
    return records


def _is_own_layout(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {*_FIELDS, *EXTRAS}:
        return False
    return (
        all(isinstance(value.get(name), str) for name in _REQUIRED)
        and value.get("instruction") in (None, "", *CLASSES)
        and isinstance(value.get("meta") or {}, dict)
        and layouts.is_history(value.get("history") or [])
    )


def _own_turns(value: Any, name: str, as_written: bool) -> list[layouts.Fields]:
    """Return the only turn of a record in the layout of `Sample`."""
    try:
        if not isinstance(value, dict):
            raise Unfit(
                "unknown_layout", f": expected an object with the fields {', '.join(_FIELDS)}"
            )
        # A null stands for a missing field: tables have every column in every row.
        optional = {"history"} if as_written else {"history", "instruction", "meta"}
        empty = {name for name in optional if value.get(name) is None}
        fields_ = {k: v for k, v in value.items() if k not in {*EXTRAS, *empty}}
        extras = {k: value[k] for k in EXTRAS if value.get(k) is not None}
        if extras and isinstance(fields_.get("meta", {}), dict):
            fields_["meta"] = fields_.get("meta", {}) | extras
        if as_written:
            return [layouts.Fields(name, fields_)]
        name = value["id"] if isinstance(value.get("id"), str) else name
        if isinstance(question := value.get("question"), str):
            if layouts.count_places(question) > 1:
                raise Unfit("two_images", f": {layouts.PLACEHOLDER} stands in it more than once")
            fields_["question"] = layouts.without_placeholder(question)
        if isinstance(answer := value.get("answer"), str):
            layouts.check_answer(answer)
        return [layouts.Fields(name, fields_)]
    except Unfit as unfit:
        return [layouts.Fields(name, unfit=unfit)]


def _sample(record: dict[str, Any]) -> Sample:
    for name in record:
        if name not in _FIELDS:
            raise Unfit(
                "unknown_layout", f", field {printable(name)}: unknown; put other fields into meta"
            )
    for name in _REQUIRED:
        if name not in record:
            raise Unfit(f"no_{name}", f", field {name}: missing")
    for name, value in record.items():
        expected = {"meta": "dict", "history": "pairs of texts"}.get(name, "str")
        kind = dict if name == "meta" else str
        if not (layouts.is_history(value) if name == "history" else isinstance(value, kind)):
            raise layouts.wrong_type(name, expected, value)
        try:
            parsing.check_plain(list(map(list, value)) if name == "history" else value)
        except ValueError as error:
            reason = "not_unicode" if "Unicode" in str(error) else "not_plain"
            raise Unfit(reason, f", field {name}: {error}") from error
    if record.get("instruction") not in (None, "", *CLASSES):
        raise Unfit("wrong_type", f", field instruction: none of {', '.join(CLASSES)}")
    return Sample(**record)


def write_samples(
    path: str | os.PathLike, samples: Iterable[Sample], *, extras: bool = False
) -> None:
    """Write samples in the format of the suffix, completely or not at all.

    In LLaVA JSON `meta` becomes further fields of the record, as `read_samples` found them. With
    `extras` EXTRAS become fields or columns in the other formats, too. Raises UserError if the file
    cannot be written.
    """
    path, samples = Path(path), list(samples)
    if path.suffix not in formats.SUFFIXES:
        suffixes = ", ".join(formats.SUFFIXES)
        raise UserError(f"{path}: unknown format; use a name ending in {suffixes}")
    with writing(path), atomic_path(path) as work:
        rows = [_with_extras(sample) if extras else to_fields(sample) for sample in samples]
        if path.suffix == ".json":
            work.write_bytes(json_list(map(to_llava, samples)))
        elif path.suffix == ".jsonl":
            work.write_bytes(json_lines(rows))
        else:
            _write_parquet(work, rows, EXTRAS if extras else ("meta",))


def _with_extras(sample: Sample) -> dict[str, Any]:
    row = to_fields(sample)
    meta = dict(row.pop("meta"))
    extras = {name: meta.pop(name, None) for name in EXTRAS}
    return row | extras | ({"meta": meta} if meta else {})


def _write_parquet(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    import pyarrow.parquet

    json_columns = [name for name in ("meta", "history") if any(name in row for row in rows)]
    names = dict.fromkeys((*_REQUIRED, "instruction", *columns, *json_columns))
    types = {"i2c": pyarrow.float64(), "tokens": pyarrow.int64()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in names])
    # As JSON text: parquet wants one type a column, and meta is anything.
    empty: dict[str, Any] = {} if "meta" in columns else {"meta": {}, "history": []}
    rows = [
        {k: json.dumps(v) if k in ("meta", "history") else v for k, v in (empty | row).items()}
        for row in rows
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def to_fields(sample: Sample) -> dict[str, Any]:
    """Return the fields of a sample; an empty history is none."""
    return {k: v for k, v in vars(sample).items() if k != "history" or v}


def content_of(sample: Sample) -> str:
    """Return a digest of a sample's texts and its image's file name, whatever its id and folder."""
    return digest([Path(sample.image).name, sample.question, sample.answer])[:16]


def to_llava(sample: Sample) -> dict[str, Any]:
    """Return a sample as a record of LLaVA's layout. Raises UserError where `meta` does not fit."""
    record = {
        "id": sample.id,
        "image": sample.image,
        "conversations": [
            {"from": "human", "value": layouts.with_placeholder(sample.question)},
            {"from": "gpt", "value": layouts.broken(sample.answer)},
        ],
    }
    if sample.history:
        record["history"] = [list(pair) for pair in sample.history]
    if taken := record.keys() & sample.meta.keys():
        names = ", ".join(sorted(taken))
        raise UserError(f"sample {printable(sample.id)}: meta may not hold {names}")
    if sample.instruction:
        record["instruction"] = sample.instruction
    return sample.meta | record
