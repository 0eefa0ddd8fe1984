"""lmms-eval on a folder of weights without any code of ours: what our cells are held against."""

import textwrap
from argparse import Namespace
from pathlib import Path

import lmms_eval.tasks
import torch
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from transformers import AutoModelForImageTextToText, AutoProcessor

import benchmarks


class Plain(lmms):
    """As little code as an answer needs: one question at a time, transformers alone."""

    def __init__(self, weights: Path, max_new_tokens: int = 128):
        super().__init__()
        self.processor = AutoProcessor.from_pretrained(weights)
        self.network = AutoModelForImageTextToText.from_pretrained(weights, dtype=torch.float32)
        self.max_new_tokens = max_new_tokens

    def generate_until(self, requests):
        return [self._answer(*request.args) for request in requests]

    def loglikelihood(self, requests):
        return [GenerationResult(text=self._loss(*request.args)) for request in requests]

    def generate_until_multi_round(self, requests):
        raise NotImplementedError

    def _answer(self, context, settings, *document) -> str:
        inputs = self._inputs(context, *document)
        length = min(settings.get("max_new_tokens", 16), self.max_new_tokens)
        tokens = self.network.generate(**inputs, do_sample=False, max_new_tokens=length)
        tokens = tokens[0, inputs["input_ids"].shape[1] :]
        answer = self.processor.decode(tokens, skip_special_tokens=True)
        for mark in settings.get("until", ()):
            answer = answer.split(mark)[0]
        return answer.strip()

    @torch.no_grad()
    def _loss(self, context, option, *document) -> tuple[float, bool]:
        """What its models return in the name of likelihood: mean cross entropy of the option."""
        start = self._inputs(context, *document)["input_ids"].shape[1]
        inputs = self._inputs(context, *document, option=option.strip())
        labels = inputs["input_ids"].clone()
        labels[:, :start] = -100
        output = self.network(**inputs, labels=labels)
        said = output.logits[0, start - 1 : -1].argmax(-1)
        return output.loss.item(), torch.equal(said, labels[0, start:])

    def _inputs(self, context, to_visual, doc_id, task, split, option=None):
        images = to_visual(self.task_dict[task][split][doc_id])
        content = [{"type": "image", "image": image} for image in images]
        chat = [{"role": "user", "content": [*content, {"type": "text", "text": context}]}]
        if option is not None:
            chat.append({"role": "assistant", "content": [{"type": "text", "text": option}]})
        return self.processor.apply_chat_template(
            chat,
            add_generation_prompt=option is None,
            continue_final_message=option is not None,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )


def local_task(task: str, data: Path, folder: Path) -> str:
    """Write a task of lmms-eval's or ours over local data to `folder`/tasks; return its name."""
    places = Path(lmms_eval.tasks.__file__).parent, Path(benchmarks.__file__).parent / "tasks"
    [own] = [path for place in places for path in place.rglob(f"{task}.yaml")]
    name = f"plain_{task}"
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    (folder / "tasks" / f"{task}.yaml").write_text(
        textwrap.dedent(f"""\
            include: {own}
            task: {name}
            dataset_path: {data}
            dataset_kwargs: {{cache_dir: {folder / "cache" / task}}}
        """)
    )
    return name


def outcome(weights: Path, task: str, data: Path, folder: Path, max_new_tokens: int = 128) -> dict:
    """What lmms-eval says of a checkpoint on its own task over the data in a folder.

    Returns {"results": its numbers by metric, "samples": its record of each document}. `folder` is
    for what lmms-eval leaves behind.
    """
    name = local_task(task, data, folder)
    found = simple_evaluate(
        model=Plain(weights, max_new_tokens),
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        cli_args=Namespace(output_path=str(folder), process_with_media=False, reasoning_tags=None),
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return {"results": found["results"][name], "samples": samples}
