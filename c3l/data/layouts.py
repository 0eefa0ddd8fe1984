"""The layouts of published VLIT data, recognised by a record's fields.

    LLaVA         id, image, conversations: messages with from and value
    TRL and kin   images, messages with role and content, which is text or parts of text and image
    LRV           image_id, question, answer, task; image_id may be a file's name without its suffix
    ComVint       not documented: image or image_id with either of the first and the last
    The Cauldron  images, texts: pairs of user and assistant
    Qwen-VL       LLaVA's, the image's path in the question: "Picture 1: <img>a.jpg</img>"

A message is by human or user, gpt or assistant; a system's is passed over, for a backbone's prompt
has its own. Whatever else a record holds becomes `meta`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from c3l.instructions import CLASSES
from c3l.runtime.errors import printable, short_repr

PLACEHOLDER = "<image>"
SCORED = ("i2c", "tokens", "unscored")
"""The fields of a score in a record; lists where it has several turns."""

_SPEAKERS = {"user": "human", "assistant": "gpt"}
_SPEAKERS |= {name: name for name in ("human", "gpt", "system")}
_TALKS = ("conversations", "messages", "texts")

_PLACES = re.compile(
    r"<image>|<img>\s*<ImageHere>\s*</img>|<ImageHere>|<image_placeholder>|<\|image(?:_\d+)?\|>"
    r"|<\|vision_start\|>\s*<\|image_pad\|>\s*<\|vision_end\|>",
    re.IGNORECASE,
)
"""The image's place in a text, as LLaVA, MiniGPT-4, Phi, Llama and Qwen spell it."""

_NAMED = re.compile(r"(?:Picture\s+\d+:\s*)?<img>\s*([^<>\n]+?)\s*</img>", re.IGNORECASE)
"""An image's place that holds its path."""


class Unfit(Exception):
    """A record, or a turn of one, cannot be a sample; `reason` is a word to count by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def wrong_type(field: str, expected: str, value: Any) -> Unfit:
    """Return the fault of a field that holds something else than expected."""
    return Unfit("wrong_type", f", field {field}: expected {expected}, got {short_repr(value)}")


@dataclass(frozen=True)
class Fields:
    """A turn: the fields of a Sample, or the reason why there is none."""

    id: str
    values: dict[str, Any] | None = None
    unfit: Unfit | None = None


def is_published(record: Any) -> bool:
    """Return whether a record is a conversation in a published layout, whatever else it holds."""
    return isinstance(record, dict) and any(
        isinstance(record.get(field), list | dict)
        and (field != "texts" or _is_list_of_pairs(record[field]))
        for field in _TALKS
    )


def turns(record: Any, name: str) -> list[Fields]:
    """Return each turn of a record in its order; `name` is the record's where it has none.

    A conversation of several turns has ids "<id>-<turn>" from 0. A record that holds no sample at
    all is one turn. Whether texts can be written as Unicode is left to who makes the samples.
    """
    own_name = _text(record.get("id")) if isinstance(record, dict) else None
    try:
        return _turns(record, name if own_name is None else own_name)
    except Unfit as unfit:
        return [Fields(own_name if isinstance(own_name, str) else name, unfit=unfit)]


def _turns(record: Any, name: Any) -> list[Fields]:
    if not isinstance(record, dict):
        raise Unfit(
            "unknown_layout",
            ": expected an object with id, image and conversations, or with image_id, question "
            "and answer",
        )
    if not isinstance(name, str):
        raise wrong_type("id", "str", name)
    pairs, texts, parts = _read_talk(record)
    if all(pair.unfit for pair in pairs):
        raise pairs[0].unfit
    image, field = _image(record, parts)
    if sum(count_places(pair.question) for pair in pairs) > 1:
        raise Unfit("two_images", f": {PLACEHOLDER} stands in it more than once")
    empty = [k for k in ("image", "images", *_TALKS, *SCORED) if record.get(k) in (None, [])]
    meta = {k: v for k, v in record.items() if k not in {"id", field, *texts, *empty}}
    # Other projects may use these names for something else: then it stays in meta.
    is_class = isinstance(meta.get("instruction"), str) and meta["instruction"] in CLASSES
    instruction = meta.pop("instruction") if is_class else ""
    history = [*map(tuple, meta.pop("history"))] if is_history(meta.get("history")) else []
    scores = [k for k in SCORED if isinstance(meta.get(k), list) and len(meta[k]) == len(pairs)]
    scored = {k: meta.pop(k) for k in scores}
    if len(pairs) > 1:  # one score for all of them is none of theirs
        meta = {k: v for k, v in meta.items() if k not in ("i2c", "unscored")}
    image_turn = next((k for k, pair in enumerate(pairs) if count_places(pair.question)), 0)
    turns = []
    for turn, pair in enumerate(pairs):
        turn_id, unfit, values = f"{name}-{turn}" if len(pairs) > 1 else name, pair.unfit, None
        question = without_placeholder(pair.question)
        if not unfit and turn < image_turn:
            unfit = Unfit("no_image", f", turn {turn + 1}: the image is shown in a later turn")
        if not unfit:
            values = {"id": turn_id, "image": image, "question": question, "answer": pair.answer}
            score = {k: v[turn] for k, v in scored.items() if v[turn] is not None}
            values |= {"instruction": instruction, "meta": meta | score, "history": tuple(history)}
        turns.append(Fields(turn_id, values, unfit))
        if not pair.unfit and pair.answer.strip():
            history.append((question, pair.answer))
    return turns


def count_places(text: str) -> int:
    """Return how often a text says where an image stands, in anybody's spelling."""
    return len(_PLACES.findall(text))


def check_answer(answer: str) -> None:
    """Raise Unfit where an answer shows an image."""
    if count_places(answer):
        raise Unfit("image_in_answer", f", the answer holds an image's place ({PLACEHOLDER})")


def without_placeholder(question: str) -> str:
    """Return a question without the image's place in it and the white space around that."""
    parts = _PLACES.split(question)
    return question if len(parts) == 1 else " ".join(filter(None, map(str.strip, parts)))


def with_placeholder(question: str) -> str:
    """Return a question behind the image's place, as LLaVA has it.

    A placeholder in the question is broken by a space, as backbones read it: it is not the place.
    """
    return f"{PLACEHOLDER}\n{broken(question)}"


def broken(text: str) -> str:
    """Return a text with a space inside whatever would be read as an image's place."""
    return _PLACES.sub(lambda place: f"{place[0][0]} {place[0][1:].replace('<', '< ')}", text)


def is_history(value: Any) -> bool:
    """Return whether a value is a list of questions and answers."""
    return isinstance(value, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        for pair in value
    )


@dataclass(frozen=True)
class _Pair:
    question: str = ""
    answer: str = ""
    unfit: Unfit | None = None


def _read_talk(record: dict) -> tuple[list[_Pair], set[str], list[Any]]:
    """Return the pairs of a record, the fields they are from, and the images in their parts."""
    parts: list[Any] = []
    talks = [field for field in _TALKS if record.get(field) is not None]
    talks = [f for f in talks if f != "texts" or _is_list_of_pairs(record[f])]
    if talk := next((field for field in talks if record[field]), next(iter(talks), None)):
        return list(_pairs(record[talk], f", field {talk}", parts)), {talk}, parts
    names = ("question", "answer")
    unknown = (
        ", field conversations: missing, and question and answer are not both there; its fields "
        f"({printable(', '.join(map(str, record)))}) are of no layout known here"
    )
    if not set(names) & record.keys():
        raise Unfit("unknown_layout", unknown)
    for field in names:
        if field not in record:
            raise Unfit(f"no_{field}", unknown)
        if not isinstance(record[field], str):
            unfit = wrong_type(field, "str", record[field])
            raise Unfit(f"no_{field}", str(unfit)) if record[field] is None else unfit
    check_answer(record["answer"])
    return [_Pair(_named(record["question"], parts), record["answer"])], set(names), parts


def _is_list_of_pairs(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(pair, dict) and {"user", "assistant"} <= pair.keys() for pair in value)
    )


def _pairs(messages: Any, location: str, parts: list[Any]) -> Iterator[_Pair]:
    """Yield what the human says and what gpt answers; the images in messages go into `parts`."""
    expected = f"{location}: expected pairs of a human and a gpt message"
    if isinstance(messages, dict) and all(isinstance(v, list) for v in messages.values()):
        # a list of objects, as older tables have it
        rows = zip(*messages.values(), strict=False)
        messages = [dict(zip(messages, row, strict=False)) for row in rows]
    if not isinstance(messages, list):
        raise Unfit("wrong_type", expected)
    if _is_list_of_pairs(messages):
        roles = ("user", "assistant")
        messages = [{"role": role, "content": pair[role]} for pair in messages for role in roles]
    question: str | Unfit | None = None
    for number, message in enumerate(messages, 1):
        position = f"{location}, message {number}"
        speaker, text = _message(message, position, parts)
        if speaker == "human":
            if question is not None:
                yield _pair(question, Unfit("no_answer", f'{position}: expected one "from" gpt'))
            question = text
        elif speaker == "gpt" and question is None:
            yield _Pair(unfit=Unfit("no_question", f'{position}: expected one "from" human'))
        elif speaker == "gpt":
            yield _pair(question, text)
            question = None
    if question is not None or not any(_speaker(message) != "system" for message in messages):
        yield _pair(question or "", Unfit("no_answer", expected))


def _pair(question: str | Unfit, answer: str | Unfit) -> _Pair:
    """Return a turn; the question of one that is no sample may still show the image."""
    if isinstance(question, Unfit):
        return _Pair(unfit=question)
    return _Pair(question, unfit=answer) if isinstance(answer, Unfit) else _Pair(question, answer)


def _speaker(message: Any) -> str | None:
    name = (message.get("from") or message.get("role")) if isinstance(message, dict) else None
    return _SPEAKERS.get(name) if isinstance(name, str) else None


def _message(message: Any, position: str, parts: list[Any]) -> tuple[str, "str | Unfit"]:
    """Return who speaks and the text, with a placeholder for an image; images go into `parts`."""
    speaker = _speaker(message)
    if speaker is None:
        reason = "unknown_speaker" if isinstance(message, dict) else "wrong_type"
        raise Unfit(reason, f'{position}: expected one "from" human or gpt')
    text = message.get("content") if message.get("value") is None else message["value"]
    if isinstance(text, list):
        text = _joined(text, speaker, parts)
    if isinstance(text, str) and speaker == "gpt":
        try:
            check_answer(text)
        except Unfit as unfit:
            return speaker, unfit
    if isinstance(text, str):
        return speaker, _named(text, parts) if speaker == "human" else text
    reason = "no_question" if speaker == "human" else "no_answer"
    reason = reason if text is None else "wrong_type"
    return speaker, Unfit(reason, f"{position}: its value is not text")


def _named(question: str, parts: list[Any]) -> str:
    """Return a question with placeholders for the images that it names, which go into `parts`."""
    parts += _NAMED.findall(question)
    return _NAMED.sub(PLACEHOLDER, question)


def _joined(content: list, speaker: str, parts: list[Any]) -> Any:
    """Return the text of a message's parts, or the first part that is neither text nor image."""
    texts = []
    for part in content:
        if isinstance(part, dict) and str(part.get("type")).startswith("image"):
            parts.append(next((part[k] for k in ("image", "path", "url") if part.get(k)), None))
            texts += [PLACEHOLDER] if speaker == "human" else []
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            return part if part is not None else content
    return " ".join(texts)


def _image(record: dict, parts: list[Any]) -> tuple[Any, str | None]:
    """Return the name of a record's image, and the field it is from."""
    fields = [f for f in ("image", "images", "image_id") if record.get(f) not in (None, [])]
    source = next((field for field in fields if record[field] != ""), next(iter(fields), None))
    value = parts if source is None and any(parts) else record.get(source)
    for field, several in (*((field, record[field]) for field in fields), ("messages", value)):
        if isinstance(several, list) and len(several) > 1:
            raise Unfit("two_images", f", field {field}: {len(several)} images, not one")
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("path")
    if value is None:
        raise Unfit("no_image", ", field image: missing")
    if not isinstance(_text(value), str):
        raise wrong_type("image", "str", value)
    return _text(value), source


def _text(name: Any) -> Any:
    """Return a name as text; numbers serve as names in some sets."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name
