"""The layouts in which others publish VLIT data as JSON: a list of records, told by their fields.

    LLaVA    id, image, conversations: messages with from and value, human and gpt by turns
    LRV      image_id, question, answer, task; image_id may be a file's name without its suffix
    ComVint  not documented: image or image_id with either of the two above

Whatever else a record holds becomes `meta`.
"""

from typing import Any

from c3l.errors import UserError, told
from c3l.instructions import CLASSES

PLACEHOLDER = "<image>"


def turns(record: Any, number: int, stem: str, where: str) -> list[dict[str, Any]]:
    """The fields of a Sample for each turn of a record, the `number`th of the file named `stem`.

    A conversation of several turns has ids "<id>-<turn>" from 0, a record without an id
    "<stem>-<number>". Raises UserError naming `where` for a layout that is not known; whether the
    fields hold what they should is left to who makes the samples.
    """
    if not isinstance(record, dict):
        raise UserError(
            f"{where}: expected an object with id, image and conversations, or with image_id, "
            "question and answer"
        )
    if "conversations" in record:
        pairs, texts = _conversation(record["conversations"], where), {"conversations"}
    elif {"question", "answer"} <= record.keys():
        pairs, texts = [(record["question"], record["answer"])], {"question", "answer"}
    else:
        raise UserError(
            f"{where}, field conversations: missing, and question and answer are not both there; "
            f"its fields ({told(', '.join(map(str, record)))}) are of no layout known here"
        )
    image = "image" if "image" in record else "image_id"
    meta = {k: v for k, v in record.items() if k not in {"id", image} | texts}
    # Other projects may use the name "instruction" for something else: then it stays in meta.
    instruction = meta.pop("instruction") if meta.get("instruction") in CLASSES else ""
    fields = {"instruction": instruction, "meta": meta}
    if image in record:
        fields["image"] = _text(record[image])
    name = _text(record.get("id", f"{stem}-{number}"))
    several = len(pairs) > 1 and isinstance(name, str)
    return [
        fields
        | {"id": f"{name}-{turn}" if several else name}
        | {"question": _without_placeholder(question), "answer": answer}
        for turn, (question, answer) in enumerate(pairs)
    ]


def _text(name: Any) -> Any:
    """Numbers serve as names in some sets."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _conversation(messages: Any, where: str) -> list[tuple[str, str]]:
    """The turns of a conversation: what the human says and what gpt answers."""
    where += ", field conversations"
    if not isinstance(messages, list) or not messages or len(messages) % 2:
        raise UserError(f"{where}: expected pairs of a human and a gpt message")
    for number, message in enumerate(messages):
        speaker = ("human", "gpt")[number % 2]
        if not isinstance(message, dict) or message.get("from") != speaker:
            raise UserError(f'{where}, message {number + 1}: expected one "from" {speaker}')
        if not isinstance(message.get("value"), str):
            raise UserError(f"{where}, message {number + 1}: its value is not text")
    values = [message["value"] for message in messages]
    return list(zip(values[::2], values[1::2], strict=True))


def _without_placeholder(question: Any) -> Any:
    """LLaVA's data put the placeholder before or after the first question."""
    if not isinstance(question, str):
        return question
    if question.startswith(f"{PLACEHOLDER}\n"):
        return question.removeprefix(f"{PLACEHOLDER}\n")
    return question.removesuffix(f"\n{PLACEHOLDER}")
