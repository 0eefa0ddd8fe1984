"""The judge of LLaVA-Bench (in the wild): any OpenAI-compatible address, or the pocket judge.

The pocket judge grades in this process, by `benchmarks.pocket.grading`. It has no state: each
prompt's context holds the scene's complete caption. Nothing here imports lmms-eval;
`benchmarks.judge.judging` does.
"""

import re
from dataclasses import asdict, dataclass

from benchmarks.api.address import ADDRESS_HINT, parse_base_url, parse_model_name
from benchmarks.api.keys import read_key
from benchmarks.pocket import grading
from c3l.runtime.errors import UserError

POCKET_MODEL = f"pocket-judge-{grading.RULE}"

TOKENS = 1024
"""Limit on a reply, lmms-eval's own."""
THINKING_TOKENS = 8192
"""Limit on a reply that begins with the judge's thinking."""
THINKING_TIME_FACTOR = 5
PROBE_TOKENS = 64
REASONING_MODELS = ("gpt-5", "o1", "o3", "o4")
"""Prefixes of names, from lmms-eval's list, whose servers call `max_tokens` otherwise."""

PROBE = """\
[Context]
There is one thing in a field. A small red ball stands north.

[Question]
What colour is the ball?

[Assistant 1]
It is red.

[End of Assistant 1]

[Assistant 2]
It is blue.

[End of Assistant 2]

[System]
Rate both answers on a scale of 1 to 10. Write one line with the two scores alone, separated by a \
space.
"""


@dataclass(frozen=True)
class Judge:
    """A judge's address and model; nothing here is secret."""

    model: str = POCKET_MODEL
    url: str | None = None
    """The address to which "/chat/completions" is added; None: the pocket judge."""
    key_variable: str | None = None
    """The environment variable that holds the key, if the address asks for one."""
    strip_thinking: bool = False
    """Read a reply after its <think> block, and allow time and tokens for one."""

    def __post_init__(self) -> None:
        """Raise UserError for an invalid address or name: both stand in a cell."""
        try:
            parse_model_name(self.model)
            if self.url:
                object.__setattr__(
                    self, "url", parse_base_url(self.url, f"address of a judge: {ADDRESS_HINT}")
                )
        except ValueError as error:
            raise UserError(f"The judge cannot be asked: {error}.") from error

    @property
    def name(self) -> str:
        """The judge's name in a cell."""
        name = f"{self.model} at {self.url}" if self.url else self.model
        return f"{name}, <think> stripped" if self.strip_thinking else name

    @property
    def tokens(self) -> int:
        """Limit on a reply."""
        return THINKING_TOKENS if self.strip_thinking else TOKENS

    def timeout(self, seconds: float) -> float:
        """Scale a reply's time limit for a judge that thinks first."""
        return seconds * THINKING_TIME_FACTOR if self.strip_thinking else seconds

    def configuration(self) -> dict:
        """The fields that decide the grades, for a stage's key; unchanged by an unused option."""
        values = asdict(self)
        if not self.strip_thinking:
            del values["strip_thinking"]
        return values

    @property
    def key(self) -> str:
        """The key, from the environment."""
        return read_key(self.key_variable)


# Two grades alone on the first line, as LLaVA-Bench asks for. lmms-eval takes the first two numbers
# there are: "I cannot rate on a scale of 1 to 10" would be a 1 and a 10.
_GRADES = re.compile(r"[^\w-]*(\d+(?:\.\d+)?)[^\w-]+(\d+(?:\.\d+)?)[^\w-]*")


def parse_grades(reply: str) -> tuple[float, float] | None:
    """Return the two grades from 0 to 10 that a judge's reply begins with, or None."""
    match = _GRADES.fullmatch(reply.strip().partition("\n")[0])
    if match is None:
        return None
    first, second = map(float, match.groups())
    return (first, second) if max(first, second) <= 10 else None


_TAG = re.compile(r"</?think>", re.IGNORECASE)


def strip_thinking(reply: str) -> str:
    """Return a reply without the <think> blocks that it begins with, nested ones too.

    Some servers leave out the first <think>, which their prompt ends with. A reply with further
    tags is returned whole: one that quotes "</think>" and two numbers has not graded by them.
    """
    if parse_grades(reply):
        return reply
    depth, end = 0, None
    for number, tag in enumerate(_TAG.finditer(reply)):
        closes = tag[0].startswith("</")
        begins = not reply[end or 0 : tag.start()].strip() or (number == 0 and closes)
        if depth == 0 and not begins:
            return reply
        depth += -1 if closes and depth else not closes
        if depth == 0:
            end = tag.end()
    return reply if depth or end is None else reply[end:].strip()


def thinking_hint(reply: str, judge: Judge, separate: bool = False) -> str:
    """Return the remedy for a reply without scores that is all thinking, else "".

    `separate`: the thinking is in a field of its own, reasoning_content.
    """
    if not separate and not _TAG.search(reply):
        return ""
    problem = "is all reasoning_content" if separate else "opens with a <think> block"
    if judge.strip_thinking:
        return f" (it {problem}, which has no clear end within {judge.tokens} tokens)"
    effect = "leaves it the tokens for that" if separate else "strips it"
    return f" (it {problem}; --set scoring.judge_strip_thinking=true {effect})"


def has_separate_reasoning(message: object) -> bool:
    """Tell if a message has no content but a field of reasoning, as vLLM and others send it."""
    fields = ("reasoning_content", "reasoning")
    return not message.content and any(getattr(message, field, None) for field in fields)


def check_judge(judge: Judge, timeout: float = 30.0, retries: int = 0) -> str | None:
    """Have one answer judged like LLaVA-Bench's; return the reason if that gave no two scores.

    No reason holds the key. A busy server is asked again, `retries` times. The pocket judge always
    gives them.
    """
    if judge.url is None:
        return None
    from benchmarks.api.client import NoCompletionError, complete, make_client

    reasoning = judge.model.startswith(REASONING_MODELS)
    tokens = judge.tokens if judge.strip_thinking or reasoning else PROBE_TOKENS
    limit = {"max_completion_tokens" if reasoning else "max_tokens": tokens}
    messages = [{"role": "user", "content": PROBE}]
    try:
        with make_client(judge.url, judge.key, judge.timeout(timeout), retries) as client:
            completion = complete(client, judge.key, model=judge.model, messages=messages, **limit)
    except NoCompletionError as error:
        return str(error)
    message = completion.choices[0].message
    reply = message.content or ""
    if parse_grades(strip_thinking(reply) if judge.strip_thinking else reply):
        return None
    hint = thinking_hint(reply, judge, has_separate_reasoning(message))
    return f"its reply does not begin with two scores{hint}: {reply[:100]!r}"


def pocket_reply(prompt: str) -> str:
    """Return the pocket judge's reply to a prompt of lmms-eval's: two grades, then their reasons.

    Raises ValueError for any other prompt, and for a context that is no complete caption.
    """
    context, question, answers = _parse_prompt(prompt)
    scene = grading.read_caption(context)
    grades = [grading.grade(question, answer, scene) for answer in answers]
    lines = [" ".join(f"{grade.value:g}" for grade in grades)]
    lines += [f"Answer {n}: {grade.reason}." for n, grade in enumerate(grades, start=1)]
    return "\n".join(lines)


def _parse_prompt(prompt: str) -> tuple[str, str, tuple[str, str]]:
    """Return context, question and both answers in a prompt of lmms-eval's LLaVA-Bench task.

    An answer may hold anything, so the second one reaches to the last mark. Mark by mark, in linear
    time: a regular expression for the whole takes minutes for a prompt of nothing but marks. Raises
    ValueError for any other prompt.
    """
    _, start, rest = prompt.partition("[Context]\n")
    context, question_mark, rest = rest.partition("\n\n[Question]\n")
    first_mark = re.search(r"\n\n\[(\w+) 1\]\n", rest)
    if start and question_mark and first_mark:
        role, question = first_mark[1], rest[: first_mark.start()]
        first, between, rest = rest[first_mark.end() :].partition(
            f"\n\n[End of {role} 1]\n\n[{role} 2]\n"
        )
        second, end, _ = rest.rpartition(f"\n\n[End of {role} 2]\n\n[System]\n")
        if between and end:
            return context, question, (first, second)
    raise ValueError("the prompt is not that of LLaVA-Bench (in the wild)")
