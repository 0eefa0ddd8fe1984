"""What a run would meet after hours is met before its first stage, in one sentence."""

import shutil
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest

from benchmarks.judge.judge import serve_http
from benchmarks.served import Served
from c3l.artifacts.store import Source, Store
from c3l.runtime.errors import UserError
from repro.profile import load
from repro.run import preflight
from repro.run.run import Run
from repro.stages import evaluation
from tests.benchmarks.judge.test_judge import completion
from tests.repro import toy
from tests.repro.checks.test_doctor import another_shard, cut, other_family


@pytest.mark.parametrize(
    ("file", "harm", "said"),
    [
        ("config.json", other_family, "unknown family 'resnet'"),
        ("tokenizer.json", cut, "no usable processor"),
        ("model.safetensors.index.json", another_shard, "is missing or cut short"),
    ],
)
def test_weights_of_a_later_row(tmp_path, tiny_llava, file, harm, said):
    profile = half_downloaded(tmp_path, tiny_llava, file, harm)
    run = Run.prepare(["table1"], load(str(profile)), [0], Store(tmp_path / "runs" / "store"))
    with pytest.raises(UserError, match=said) as error:
        [*run.finish(tmp_path / "runs" / "toy", 1)]
    assert "\n" not in str(error.value)
    assert nothing_is_stored(tmp_path / "runs")


def test_half_a_download_costs_the_first_backbone_nothing(tmp_path, tiny_llava):
    profile = half_downloaded(tmp_path, tiny_llava, "model.safetensors", cut)
    done = toy.repro("table1", "--profile", profile, "--seeds", 1, "--runs", tmp_path / "runs")
    assert done.returncode == 2, done.stdout
    assert "cut short" in done.stderr and done.stderr.count("\n") == 1
    assert nothing_is_stored(tmp_path / "runs")


def half_downloaded(folder, backbone, file, harm):
    """A profile whose second backbone is harmed."""
    for name in ("whole", "half"):
        shutil.copytree(backbone, folder / name)
    harm(folder / "half" / file)
    profile = toy.profile(folder, folder / "whole")
    profile.write_text(profile.read_text().replace("backbones:", "backbones:\n  MiniGPT-4: half"))
    return profile


def nothing_is_stored(runs):
    return not [path for path in (runs / "store").iterdir() if path.name != "locks"]


def saying(*replies):
    """A handler that gives these replies, (status, body), one after the other."""

    class Handler(BaseHTTPRequestHandler):
        left: ClassVar = list(replies)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, content = self.left.pop(0)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *args):
            pass

    return Handler


@pytest.fixture
def judged(tmp_path, tiny_llava):
    """A function that gives the stage of LLaVA^W with a judge at an address."""

    def stage(url):
        scoring = load("pocket", [f"scoring.judge={url}"]).scoring
        return evaluation.evaluation(
            Source.from_path(tiny_llava), "llava_w", Source.from_path(tmp_path), scoring
        )

    return stage


def test_a_judge_that_answers_nonsense(judged):
    said = "does not judge: its reply does not begin with two scores"
    nonsense = saying((200, completion("Both are nice.")))
    with serve_http(nonsense) as url, pytest.raises(UserError, match=said):
        preflight.check([judged(url)])


def test_a_judge_that_is_not_there(judged):
    with pytest.raises(UserError, match=r"does not judge: .*scoring\.judge=null"):
        preflight.check([judged("http://127.0.0.1:9/v1")])


def test_a_judge_that_is_busy_is_asked_again_and_one_call_is_enough(judged):
    handler = saying((429, "{}"), (200, completion("8 4")), (500, "once too often"))
    with serve_http(handler) as url:
        preflight.check([judged(url), judged(url)])
    assert len(handler.left) == 1


def test_a_served_model(tmp_path):
    scoring = load("pocket").scoring
    with serve_http(saying((404, '{"error": {"message": "no such model"}}'))) as url:
        served = Served(model="m", url=url)
        stage = evaluation.evaluation(served, "pope", Source.from_path(tmp_path), scoring)
        with pytest.raises(UserError, match=r"m at .* does not answer: .*no such model"):
            preflight.check([stage])


def test_the_pocket_profile_needs_no_look(monkeypatch):
    """Its backbones have seals, its judge is its own."""
    from c3l.stages.common import backbone_source

    pocket = load("pocket")
    weights = backbone_source(pocket.backbones["LLaVA-7B"].weights)
    stage = evaluation.evaluation(weights, "llava_w", weights, pocket.scoring)
    monkeypatch.setattr("c3l.backbones.loading.inspect", None)
    monkeypatch.setattr(preflight, "require_answer", None)
    preflight.check([stage])
