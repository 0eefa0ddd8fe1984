"""lmms-eval's own judging of LLaVA-Bench, with an end to its patience.

Prompt, parser and aggregation are lmms-eval's. By itself it asks again five times (and its client
three times within each, each up to ten minutes), question after question, and scores a judge that
never answers 100. Here the client alone asks again, nothing is asked after a question that failed,
and each failure has a reason.
"""

from lmms_eval.api.task import ConfigurableTask
from lmms_eval.llm_judge import ProviderFactory, Request, Response, ServerConfig
from lmms_eval.llm_judge.providers.openai import OpenAIProvider, build_sampling_kwargs
from openai import OpenAIError

from benchmarks.judge import Judge

TIMEOUT = 60.0  # seconds for one reply
RETRIES = 2  # by the client, after about half a second and one
NOT_ASKED = "not asked after a failure"
METRIC = "gpt_eval_llava_all"
PING = {
    "question_id": "ping",
    "question": "What colour is the ball?",
    "caption": "There is one thing in a field. A small red ball stands north.",
    "gpt_answer": "The ball is red.",
    "category": "conv",
}


class Client(OpenAIProvider):
    """lmms-eval's client, for one evaluation: it gives up at the first question that fails."""

    def __init__(self, config: ServerConfig):
        super().__init__(config)
        self.client = self.client.with_options(timeout=TIMEOUT, max_retries=RETRIES)
        self.failed = False

    def evaluate(self, request: Request) -> Response:
        if self.failed:
            raise RuntimeError(NOT_ASKED)
        try:
            return self._ask(request)
        except OpenAIError as error:
            reason = str(error).replace(self.api_key, "***")  # some servers repeat the key
        except (AttributeError, IndexError, TypeError, ValueError):
            # Servers send anything with status 200, and the client checks little of it.
            reason = "its reply is no chat completion with a text"
        self.failed = True
        raise RuntimeError(reason)

    def _ask(self, request: Request) -> Response:
        reply = self.client.chat.completions.create(
            model=request.config.model_name,
            messages=self.prepare_messages(request),
            **build_sampling_kwargs(request.config),
        )
        return Response(reply.choices[0].message.content.strip(), reply.model)


ProviderFactory.register_provider("c3l", Client)


def variables(judge: Judge, url: str) -> dict[str, str]:
    """What lmms-eval reads from the environment, with the task and with the first question."""
    names = {
        "API_TYPE": "c3l",
        "MODEL_VERSION": judge.model,
        "OPENAI_API_URL": url,
        "OPENAI_API_KEY": judge.key,
    }
    return names if judge.url else names | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def ping(task: ConfigurableTask) -> str | None:
    """Judge one answer as all will be judged; a sentence if that failed, else None."""
    reason = failure(task.process_results(PING, ["It is red."])[METRIC])
    return f"the judge cannot be used: {reason}" if reason else None


def failure(judgement: dict) -> str | None:
    """Why lmms-eval's judgement of an answer is none, or None."""
    if all(0 <= score <= 10 for score in judgement["scores"]):
        return None
    review = " ".join(judgement["review"].split())
    if review.startswith("error: "):  # lmms-eval's word for an exception
        return review.removeprefix("error: ")[:300]
    return f"its reply has no two scores from 0 to 10: {review[:100]!r}"


def failures(reasons: list[str], answers: int) -> str | None:
    """A sentence about an evaluation's failures, one reason each, or None without any."""
    if not reasons:
        return None
    told = [reason for reason in reasons if reason != NOT_ASKED]
    skipped = len(reasons) - len(told)
    rest = f" ({skipped} more were not asked)" if skipped else ""
    return f"the judge failed on {len(told)} of {answers} answers{rest}: {told[0]}"
