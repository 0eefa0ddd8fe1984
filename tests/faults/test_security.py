"""What SECURITY.md promises: nothing in data runs, leaves its folder, listens, or tells the key."""

import json
import logging
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.evaluate import evaluate
from benchmarks.judge.judge import Judge, check_judge, serve_http
from c3l.artifacts.files import SEAL, write_digests
from c3l.artifacts.store import Source, Store
from c3l.backbones import load_backbone
from c3l.backbones.loading import inspect
from c3l.convert.sources import read_file, read_folder
from c3l.instructions import CLASSES
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample, read_samples
from c3l.training import tune
from repro.profile import load
from repro.stages import evaluation
from repro.stages.published import run_lengths
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.benchmarks.judge.test_judge import completion
from tests.c3l.training import READINGS, SETTINGS
from tests.faults.outcome import is_a_sentence

AREA = "security"
ROOT = Path(__file__).parents[2]
SECRET = "s3cret-KEY-0123456789"


class Payload:
    """Unpickled by anything that runs pickles, it makes a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def trap(tmp_path):
    """The file that a payload makes. It must not be there at the end, and it could have been."""
    target = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(target)))
    target.unlink()
    yield target
    assert not target.exists()


# ── Pickles ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in model"])
def test_a_malicious_checkpoint_is_not_run(tmp_path, trap, record_fault, legacy, wrapped):
    content = OrderedDict(weight=torch.zeros(2), evil=Payload(trap))
    content = {"model": content} if wrapped else content
    (tmp_path / "folder").mkdir()
    with record_fault(AREA, "a malicious pickle for a checkpoint"):
        for name in ("a.pth", "a.bin", "a.pt", "folder/pytorch_model.bin"):
            path = tmp_path / name
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            with pytest.raises(UserError, match="may run code") as error:
                read_file(path)
            assert is_a_sentence(str(error.value))
        with pytest.raises(UserError, match="may run code"):
            read_folder(tmp_path / "folder")


def test_a_bare_pickle_for_a_checkpoint_is_not_run(tmp_path, trap, record_fault):
    with record_fault(AREA, "a malicious pickle for a checkpoint"):
        for name in ("a.pth", "a.safetensors"):
            (tmp_path / name).write_bytes(pickle.dumps(Payload(trap)))
            with pytest.raises(UserError):
                read_file(tmp_path / name)


def test_a_backbone_of_pickles_is_not_loaded(tmp_path, tiny_llava, trap, record_fault):
    """pytorch_model.bin beside or in place of safetensors, and every other pickle a folder has."""
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_llava, folder)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
        torch.save({"a": Payload(trap)}, folder / name)
    np.save(folder / "a.npy", np.array([Payload(trap)], dtype=object), allow_pickle=True)
    with record_fault(AREA, "a backbone's folder with pickles in it"):
        load_backbone(folder, device="cpu")  # by its safetensors alone
        (folder / "model.safetensors").unlink()
        for look in (load_backbone, inspect):
            with pytest.raises(UserError):
                look(folder)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_malicious_training_state_is_not_run(
    tmp_path, tiny_llava, tiny_images, trap, record_fault, name
):
    samples = [Sample(f"s{i}", "image-0.png", "What?", "A cup.", CLASSES[0]) for i in range(8)]
    settings = SETTINGS.model_copy(update={"batch_size": 2, "save_steps": 2})
    images, rest = ImageFolder(tiny_images), (READINGS, 0, tmp_path / "out")
    tune(load_backbone(tiny_llava, device="cpu"), samples, images, settings, *rest)
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert (checkpoint / name).is_file()
    torch.save({"evil": Payload(trap)}, checkpoint / name)
    torch.save(Payload(trap), checkpoint / "training_args.bin")
    (checkpoint / SEAL).unlink()  # whoever can write a checkpoint can seal it
    write_digests(checkpoint, [path.name for path in checkpoint.iterdir()])
    more = settings.model_copy(update={"epochs": 2})  # so that there is a step to take
    backbone = load_backbone(tiny_llava, device="cpu")
    with record_fault(AREA, "a malicious pickle for a training's state"):
        with pytest.raises(UserError, match="holds more than tensors") as error:
            tune(backbone, samples, images, more, *rest)
        assert is_a_sentence(str(error.value))


def test_malicious_parquet_is_not_run(tmp_path, trap, record_fault):
    """Arrow once unpickled extension types out of a file's metadata (CVE-2023-47248)."""
    import pyarrow
    import pyarrow.parquet

    marks = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload(trap)),
    }
    record = {"id": "1", "image": "a.png", "question": "Why?", "answer": "So."}
    fields = [pyarrow.field(name, pyarrow.string(), metadata=marks) for name in record]
    table = pyarrow.Table.from_pylist([record], schema=pyarrow.schema(fields))
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with record_fault(AREA, "a malicious pickle in parquet"):
        assert len(read_samples(tmp_path / "a.parquet")) == 1


def test_a_benchmarks_folder_runs_nothing(tmp_path, trap, record_fault):
    folder = data.seedbench(tmp_path / "bench", n=4)
    for name in ("bench.py", "seedbench.py", "conftest.py", "__init__.py"):
        (folder / name).write_text(f"from pathlib import Path\nPath({str(trap)!r}).touch()\n")
    (folder / "test.pkl").write_bytes(pickle.dumps(Payload(trap)))
    with record_fault(AREA, "code beside a benchmark's data"):
        with pytest.raises(UserError, match="scripts are no longer supported"):
            evaluate(TableBackbone({}, "A"), "seedbench", folder, tmp_path / "out")
        (folder / "bench.py").unlink()  # only one that is called like its folder counts
        cell = evaluate(TableBackbone({}, "A"), "seedbench", folder, tmp_path / "out")
        assert cell["value"] is not None


def test_nothing_of_ours_unpickles():
    """Every torch.load says weights_only, and nothing else that reads pickles is called at all."""
    for path in [
        file
        for part in ("c3l", "benchmarks", "repro", "tables")
        for file in (ROOT / part).rglob("*.py")
    ]:
        text = path.read_text()
        assert not re.search(r"\b(pickle|joblib|shelve|dill)\.|read_pickle|allow_pickle=True", text)
        assert not re.search(r"yaml\.(unsafe_|full_)?load\((?!text, Loader=_Loader)", text), path
        if "torch.load(" in text:
            assert '"weights_only": True' in text, path


# ── Remote code ──────────────────────────────────────────────────────────────────────────────────


def test_code_in_a_backbones_folder_is_not_run(tmp_path, tiny_llava, trap, record_fault):
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_llava, folder)
    code = f"from pathlib import Path\nPath({str(trap)!r}).touch()\n"
    for name in ("modeling_evil", "configuration_evil", "processing_evil", "tokenization_evil"):
        (folder / f"{name}.py").write_text(code)
    names = {
        "AutoConfig": "configuration_evil.Evil",
        "AutoModel": "modeling_evil.Evil",
        "AutoProcessor": "processing_evil.Evil",
        "AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"],
    }
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | {"auto_map": names}))
    with record_fault(AREA, "code in a backbone's folder"):
        for look in (load_backbone, inspect):
            try:
                look(folder)
            except UserError as error:
                assert is_a_sentence(str(error))
    assert (
        "trust"
        not in subprocess.run(
            [sys.executable, "-m", "c3l", "score", "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_lengths_ask_for_no_code(tmp_path, tiny_llava, trap, monkeypatch):
    """The one tokenizer that is read without its model."""
    import transformers

    asked = {}
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda *_, **options: asked.update(options)
    )
    monkeypatch.setattr("c3l.stages.common.samples_of", lambda *_: [])
    job = type("Job", (), {"inputs": {"backbone": tiny_llava}, "out": tmp_path})
    with pytest.raises(TypeError):  # what stands for a tokenizer is none
        run_lengths(job)
    assert asked["trust_remote_code"] is False


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('exit') }}",
        "{% for message in messages %}{{ message.clear() }}{% endfor %}",
        "{% if %}",
        "nothing of the chat",
        "",
    ],
)
def test_a_chat_template_is_in_a_sandbox(tmp_path, tiny_llava, template, record_fault):
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_llava, folder)
    for name in ("tokenizer_config.json", "processor_config.json"):
        path = folder / name
        if path.exists():
            content = json.loads(path.read_text())
            content.pop("chat_template", None)
            path.write_text(json.dumps(content))
    (folder / "chat_template.jinja").write_text(template)
    with record_fault(AREA, "a malicious or useless chat template"):
        with pytest.raises(UserError, match="chat template") as error:
            load_backbone(folder, device="cpu")
        assert is_a_sentence(str(error.value))


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", "a/b", 3, None])
def test_an_index_of_weights_names_no_other_folder(tmp_path, tiny_llava, name, record_fault):
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_llava, folder)
    (folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    tensors = load_file(tmp_path / "secret.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with record_fault(AREA, "an index of weights that leaves its folder"):
        for look in (load_backbone, inspect, read_folder):
            with pytest.raises(UserError, match="which is no file beside it"):
                look(folder)


def test_an_index_of_weights_is_followed_in_its_folder(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(read_folder(tmp_path).tensors) == {"a"}


# ── Listening ────────────────────────────────────────────────────────────────────────────────────


def test_nothing_listens_but_on_loopback(tmp_path, monkeypatch, record_fault):
    """Every socket that is bound while the pocket judge serves an evaluation."""
    bound, bind = [], socket.socket.bind

    def watched(self, address):
        bound.append(address)
        return bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", watched)
    with record_fault(AREA, "listening on another interface"):
        folder = data.llava_w(tmp_path / "data")
        evaluate(TableBackbone({}, "Hm."), "llava_w", folder, tmp_path / "o", judge=Judge())
        addresses = [address for address in bound if isinstance(address, tuple)]
        assert addresses and {address[0] for address in addresses} == {"127.0.0.1"}


# ── The judge's key ──────────────────────────────────────────────────────────────────────────────


class Echo(BaseHTTPRequestHandler):
    """Says whatever it was sent, the key too; `status` is its own."""

    status = 200

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        said = self.headers["Authorization"]
        content = completion(f"8 4\nYour key: {said}")
        if self.status != 200:
            content = json.dumps({"error": {"message": f"Incorrect: {said}", "key": said}})
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Key", said)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *args):
        pass


class Refusing(Echo):
    status = 401


def test_the_judges_key_is_written_nowhere(
    tmp_path, tiny_llava, monkeypatch, capfd, caplog, record_fault
):
    """Judges that repeat the key in replies and refusals; the client's own log is as loud as it
    gets. Then every file of the run and all that was said is searched."""
    monkeypatch.setenv("MY_JUDGE_KEY", SECRET)
    for name in ("openai", "httpx", "lmms_eval"):
        caplog.set_level(logging.DEBUG, name)
    folder = data.llava_w(tmp_path / "data")
    store, scoring = Store(tmp_path / "runs" / "store"), load("pocket").scoring
    weights, wild = Source.from_path(tiny_llava), Source.from_path(folder)
    with (
        record_fault(AREA, "a judge that repeats its key"),
        serve_http(Echo) as good,
        serve_http(Refusing) as refusing,
    ):
        made = []
        for url in (good, refusing):
            judge = {"judge": url, "judge_model": "m", "judge_key": "MY_JUDGE_KEY"}
            judged = scoring.model_copy(update=judge)
            made.append(evaluation.evaluation(weights, "llava_w", wild, judged))
            reason = check_judge(Judge("m", url, "MY_JUDGE_KEY"))
            assert (reason is None) == (url == good) and SECRET not in str(reason)
            store.make(made[-1])
        facts = [store.manifest(stage)["facts"] for stage in made]
        assert [fact["unscored"] is None for fact in facts] == [True, False]
        assert "Incorrect: Bearer ***" in facts[1]["unscored"]
        files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
        assert len(files) > 6
        for path in files:
            assert SECRET.encode() not in path.read_bytes(), path
            assert SECRET not in str(path)
        said = "".join(capfd.readouterr()) + caplog.text
        assert SECRET not in said
