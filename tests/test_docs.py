"""README and docs: every example runs, every command exists, every link leads somewhere."""

import configparser
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import typer
import yaml

from c3l.settings import MethodSettings, TrainingSettings
from repro.profile import load
from tests.benchmarks import data
from tests.repro import toy

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted(ROOT.glob("benchmarks/*/README.md"))
# A record: tests/tried types its commands and tests/tried/test_tried.py looks after it.
TYPED = ROOT / "docs" / "commands.md"

# ── Examples ─────────────────────────────────────────────────────────────────────────────────────

SMALL = [
    *("--set", "sizes.initial_images=4", "--set", "sizes.final_images=4"),
    *("--set", "sizes.final_samples=8", "--set", "resamples=100", "--jobs", "1"),
    *("--set", "training.joint.epochs=1", "--set", "training.joint.anchor_tokens=8"),
]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; "" is a block that names none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def python_examples() -> dict[str, tuple[str, list[str]]]:
    """Each script's text and the arguments it is called with, by the name in the command behind it.

    A block without a command behind it runs under its page's name.
    """
    found = {}
    for page in PAGES:
        if page.name == "python.md":  # tests/c3l/test_python_api.py runs it, beside some images
            continue
        parts = re.split(r"^```python\n", page.read_text(), flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts):
            script, _, rest = part.partition("\n```\n")
            command = re.match(r"\n```\npython (\w+\.py)(.*)\n```", rest)
            name, arguments = command.groups() if command else (f"{page.stem}_{number}.py", "")
            found[name] = (script + "\n", arguments.split())
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The examples share what they make, as their reader's do."""
    return tmp_path_factory.mktemp("runs")


TASKS = {"realworldqa.py": {"RealWorldQA": "realworldqa"}, "mme.py": {"MME": "mme"}}


@pytest.fixture
def mine(tmp_path, name):
    """A profile with the pocket models and the benchmark of an example: 4 or 12 questions."""
    world = toy.world(tmp_path / "world")
    rows = [
        {"image": data.image(k), "question": f"Is there a ball, number {k}?", "answer": answer}
        for k, answer in enumerate(("yes", "no", "yes", "A"))
    ]
    text = data.TEXT
    features = {"image": data.Image(), "question": text, "answer": text}
    data.write(world / "benchmarks" / "realworldqa", rows, features, "test")
    rows = [
        {"image": data.image(k // 2), "question": f"Is it {k}?", "answer": ("Yes", "No")[k % 2]}
        | {"question_id": f"{k // 2}.png", "category": ("count", "color", "code_reasoning")[k // 4]}
        for k in range(12)
    ]
    features |= {"question_id": text, "category": text}
    data.write(world / "benchmarks" / "mme", rows, features, "test")
    values = yaml.safe_load((ROOT / "repro" / "profiles" / "pocket.yaml").read_text())
    values["data"] = str(world)
    values["scoring"]["tasks"] = TASKS[name]
    for label in ("LLaVA-7B", "LLaVA-13B"):
        place = ROOT / "repro" / "profiles" / values["backbones"][label]
        values["backbones"][label] = str(place.resolve())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", python_examples())
def test_an_example_runs_as_its_page_says(name, tmp_path, runs, request):
    script, arguments = python_examples()[name]
    assert len(script.splitlines()) < 40
    if "mine.yaml" in arguments:
        arguments[arguments.index("mine.yaml")] = str(request.getfixturevalue("mine"))
    if arguments:  # a table
        arguments += ["--runs", str(runs), *SMALL]
    (tmp_path / name).write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / name), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "unscored" not in done.stdout


def test_the_four_ways_to_add_something_have_an_example():
    headings = re.findall(
        r"^## A (.*)$", (ROOT / "docs" / "extending.md").read_text(), re.MULTILINE
    )
    assert headings == ["backbone", "selector", "benchmark", "row"]
    assert len(blocks(ROOT / "docs" / "extending.md", "python")) == 5  # two of benchmarks


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────


def commands() -> list[tuple[str, str]]:
    """Every command line in blocks and in running text, with the page that has it."""
    found = []
    for page in PAGES:
        text = re.sub(r"^```(\w+)\n.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        shell = "\n".join(blocks(page, "")).replace("\\\n", " ")
        inline = re.findall(
            r"`([^`\n]+(?:\n[^`\n]+)?)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        for line in [*shell.splitlines(), *(" ".join(part.split()) for part in inline)]:
            found += [(part.strip(), page.name) for part in line.partition("  #")[0].split("&&")]
    return list(dict.fromkeys(found))


def ours() -> list[str]:
    return sorted({line for line, _ in commands() if re.match(r"python -m (repro|c3l)\b", line)})


@cache
def tree(package: str):
    """A package's command line."""
    return typer.main.get_command(importlib.import_module(f"{package}.cli").app)


def wrong_in(line: str) -> str | None:
    """What of a command line of ours does not exist."""
    package, *words = shlex.split(re.sub(r"[\[\]]", "", line.removeprefix("python -m ")))
    command = tree(package)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        if name.isupper():  # a placeholder
            continue
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return next((f"no {w}" for w in words if w.startswith("--") and w not in options), None)


def test_there_is_something_to_check():
    assert len(ours()) > 15
    assert wrong_in("python -m repro nothing") == "no command nothing"
    assert wrong_in("python -m repro table4 --seeds 1 --sed 2") == "no --sed"
    assert wrong_in("python -m c3l convert llava --help") is None
    assert wrong_in("python -m c3l convert llama") == "no command llama"


@pytest.mark.parametrize("line", ours())
def test_a_command_and_its_options_exist(line):
    assert wrong_in(line) is None


# A profile has several trainings, `c3l train` has one.
TRAINING = TrainingSettings.model_fields


def changes() -> list[str]:
    """What `--set` is shown with, where it is a value of a profile or of the method alone."""
    pages = [page for page in PAGES if page != TYPED]  # mistakes are shown there, too
    text = "\n".join(page.read_text() for page in pages)
    found = dict.fromkeys(re.findall(r"--set (\w+\.[\w.-]+=[^\s`<]+)", text))
    return [change.replace("…", "example.org") for change in found]


@pytest.mark.parametrize("change", changes())
def test_what_set_changes_exists(change):
    if change.startswith("training.") and change.split(".")[1].split("=")[0] in TRAINING:
        MethodSettings().changed([change])
    else:
        load("pocket", [change])


def test_tox_has_the_environments_that_are_named():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    known = {
        name for section in tox.sections() for name in expanded(section.removeprefix("testenv:"))
    }
    named = {match for line, _ in commands() for match in re.findall(r"tox -e ([\w-]+)", line)}
    assert "repro-table4" in named <= known


def expanded(name: str) -> set[str]:
    """a-{b,c} is a-b and a-c."""
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    return {"".join(chosen) for chosen in product(*parts)}


def test_other_modules_and_files_that_are_run_exist():
    modules = {m for line, _ in commands() for m in re.findall(r"^python -m ([\w.]+)", line)}
    assert "benchmarks.pocket.pretrain" in modules
    for module in modules:
        assert importlib.util.find_spec(module), module
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_lmms_eval_knows_its_options(monkeypatch):
    from lmms_eval.__main__ import parse_eval_args

    lines = {line for line, _ in commands() if line.startswith("lmms-eval --")}
    assert len(lines) == 1
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        _, arguments = parse_eval_args()
        assert (arguments.model, arguments.batch_size) == ("c3l", "16")


# ── Links, files, citation ───────────────────────────────────────────────────────────────────────


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"https?://|#", link)]


def test_links_lead_to_files():
    assert {"LICENSE", "docs/report.png", "docs/extending.md"} <= set(links(ROOT / "README.md"))
    for page in PAGES:
        for link in links(page):
            assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_files_named_in_running_text_exist():
    folders = "c3l|repro|benchmarks|tables|tests|docs"
    for page in PAGES:
        if page.name == "decisions.md":  # of its day
            continue
        for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_page_of_docs_is_found_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    assert {page for page in PAGES if page.parent.name == "docs"} <= seen


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["title"] and citation["message"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == [{"name": "The C³L reproduction suite contributors"}]
    paper = citation["preferred-citation"]
    assert (paper["type"], paper["year"]) == ("conference-paper", 2024)
    bibtex = " ".join((ROOT / "README.md").read_text().split())
    assert f"{{{paper['title']}}}" in bibtex
    names = (f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert f"{{{' and '.join(names)}}}" in bibtex
