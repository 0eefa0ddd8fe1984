"""Check README and docs: commands exist, links and the architecture hold."""

import argparse
import ast
import configparser
import importlib.util
import os
import re
import shlex
import sys
import tomllib
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import pytest
import typer
import yaml

from c3l.settings import MethodSettings, TrainingSettings
from repro.profile import load
from tests.docs.pages import PAGES, RECORDS, ROOT, blocks, python_examples

# ── Commands ─────────────────────────────────────────────────────────────────────────────────────


def commands() -> list[tuple[str, str]]:
    """Return every command line in blocks and in running text, with the page that has it."""
    lines = []
    for page in PAGES:
        shell = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        inline = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", text)
        for line in [*shell.splitlines(), *(" ".join(part.split()) for part in inline)]:
            lines += [(part.strip(), page.name) for part in line.partition("  #")[0].split("&&")]
    return list(dict.fromkeys(lines))


def ours() -> list[str]:
    return sorted({line for line, _ in commands() if re.match(r"python -m (repro|c3l)\b", line)})


@cache
def tree(package: str):
    """A package's command line."""
    module = {"c3l": "c3l.cli.app", "repro": "repro.cli"}[package]
    return typer.main.get_command(importlib.import_module(module).app)


def wrong_in(line: str) -> str | None:
    """Name what does not exist in a command line of ours."""
    package, *words = shlex.split(re.sub(r"[\[\]]", "", line.removeprefix("python -m ")))
    command = tree(package)
    if "--plugin" in words:  # the examples are run
        return None
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
    """Return the arguments of `--set` that are a value of a profile or of the method alone."""
    text = "\n".join(page.read_text() for page in PAGES)
    shown = dict.fromkeys(re.findall(r"--set (\w+\.[\w.-]+=[^\s`<]+)", text))
    return [change.replace("…", "example.org") for change in shown]


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


# ── Examples in a shell ──────────────────────────────────────────────────────────────────────────


def shell_lines() -> list[str]:
    """Return every command of a fenced example, continuation lines joined."""
    lines = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
            parts = line.partition("  #")[0].split(" && ")
            lines += [part.strip() for part in parts if part.strip()]
    return list(dict.fromkeys(lines))


def parse_ours(words: list[str]) -> None:
    """Parse a command line of c3l or repro as the real one does, without running it."""
    if "--plugin" in words:
        assert words[words.index("--plugin") + 1] in python_examples()  # which are run
        return
    package, *words = words
    command = tree(package)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    try:
        command.make_context(command.name, words)
    except typer.Exit as leaving:  # --help
        assert leaving.exit_code == 0


def parse_pip(words: list[str]) -> None:
    pip = argparse.ArgumentParser(exit_on_error=False)
    pip.add_argument("-c", type=existing)
    pip.add_argument("-e")
    pip.add_argument("-U", action="store_true")
    pip.add_argument("packages", nargs="*")
    asked = pip.parse_args(words)
    extras = re.search(r"\[(.*)\]", asked.e or "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*(extras[1].split(",") if extras else ())} <= {*project["optional-dependencies"]}


def parse_accelerate(words: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    asked = launch_command_parser().parse_args(words)
    existing(asked.config_file)
    assert asked.module
    parse_ours([asked.training_script, *asked.training_script_args])


def parse_hf(words: list[str]) -> None:
    from huggingface_hub.cli.hf import app

    app.main([*words, "--help"], standalone_mode=False)


def parse_lmms_eval(words: list[str]) -> None:
    from lmms_eval.__main__ import parse_eval_args

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lmms-eval", *words])
        _, asked = parse_eval_args()
    assert (asked.model, asked.batch_size) == ("c3l", "16")


def parse_script(words: list[str]) -> None:
    assert words[0] in python_examples()  # which is run


def existing(path: str) -> Path:
    assert (ROOT / path).exists(), path
    return ROOT / path


PARSERS = {
    "python -m repro": lambda words: parse_ours(["repro", *words]),
    "python -m c3l": lambda words: parse_ours(["c3l", *words]),
    "c3l-repro": lambda words: parse_ours(["repro", *words]),
    "c3l": lambda words: parse_ours(["c3l", *words]),
    "python": parse_script,
    "pip install": parse_pip,
    "accelerate launch": parse_accelerate,
    "hf": parse_hf,
    "lmms-eval": parse_lmms_eval,
    "pytest": lambda words: None,
    "ruff": lambda words: None,
    "mypy": lambda words: None,
    "python -m tests.style": lambda words: None,
}


@pytest.mark.parametrize("line", shell_lines())
def test_a_shell_example_is_parsed_by_the_real_command_line(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    line = re.sub(r"^(\w+=\S+ )+", "", line)  # variables of the environment
    words = shlex.split(re.sub(r"\[(--[^\]]+)\]", r"\1", line).replace("cpu|cuda", "cpu"))
    for length in (3, 2, 1):
        if parse := PARSERS.get(" ".join(words[:length])):
            return parse(words[length:])
    pytest.fail(f"nothing here can parse {line!r}")


def test_every_example_names_its_language():
    for page in PAGES:
        assert not blocks(page, ""), page.name


# ── Links, files, citation ───────────────────────────────────────────────────────────────────────


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in targets if not re.match(r"https?://|#", link)]


def test_links_lead_to_files():
    assert {"LICENSE", "docs/report.png", "docs/extending.md"} <= set(links(ROOT / "README.md"))
    for page in PAGES + RECORDS:
        for link in links(page):
            assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_files_named_in_running_text_exist():
    folders = "c3l|repro|benchmarks|tables|tests|docs"
    for page in PAGES:
        for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_page_of_docs_is_found_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    assert {page for page in PAGES if page.parent.name == "docs"} | {*RECORDS} <= seen


def test_decisions_are_dated_and_the_newest_stands_first():
    text = (ROOT / "docs" / "records" / "decisions.md").read_text()
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    dates = [re.match(r"(\d{4}-\d\d-\d\d) · \S", title)[1] for title in titles]
    assert dates == sorted(dates, reverse=True)


# ── Architecture ─────────────────────────────────────────────────────────────────────────────────


def walks() -> list[list[tuple[Path, str]]]:
    """Return each walk of docs/architecture.md: a file, and the names in its item, a step."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    walks: list[list] = []
    for number, file, rest in re.findall(r"^(\d+)\. `([\w/]+\.py)`(.*)$", text, re.MULTILINE):
        if number == "1":
            walks.append([])
        walks[-1].append((ROOT / file, re.findall(r"`(\w+)`", rest)))
    return walks


def names_used(path: Path) -> set[str]:
    """Return the names that a module's code reads or imports, attributes included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                names.add(name.rpartition(".")[2])
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
    return names


def imports(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, at its top or in a function."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def test_the_walk_to_each_equation_is_short_and_holds():
    to_eq1, to_eq3 = walks()
    assert len(to_eq1) <= 13 and len(to_eq3) <= 7
    assert to_eq1[-2][0].name == "relevance.py" and to_eq3[-1][0].name == "contrastive.py"
    for walk in (to_eq1, to_eq3):
        for path, names in walk:
            assert path.is_file(), path
            assert {*names} <= names_used(path) | CALLED_BY_THE_STORE, path
        for (path, _), (following, _) in pairwise(walk):
            module = ".".join(following.relative_to(ROOT).with_suffix("").parts)
            last, first = (
                f"{path.parent.name}/{path.name}",
                f"{following.parent.name}/{following.name}",
            )
            assert module in imports(path) or (last, first) in CALLED_THROUGH, (last, first)


CALLED_BY_THE_STORE = {"run_scores", "run_generator"}
"""What `Store.make` calls as `stage.run`."""
CALLED_THROUGH = {
    ("stages/scoring.py", "run/runner.py"),  # the plan is done; `Run.finish` runs it
    ("artifacts/store.py", "c3l/relevance.py"),  # through run_scores, which imports it
    ("artifacts/store.py", "stages/training.py"),
}


def test_a_stage_names_the_function_that_the_store_calls():
    assert "run" in names_used(ROOT / "c3l" / "artifacts" / "store.py")
    for name, module in (("run_scores", "scoring"), ("run_generator", "training")):
        path = ROOT / "c3l" / "stages" / f"{module}.py"
        stages = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Stage"
        ]
        assert any(getattr(stage.args[2], "id", "") == name for stage in stages)
    assert "c3l.relevance" in imports(ROOT / "c3l" / "stages" / "scoring.py")


def test_imports_go_down():
    for package, above in (("c3l", ("benchmarks", "repro")), ("benchmarks", ("repro",))):
        for path in (ROOT / package).rglob("*.py"):
            for module in imports(path):
                assert module.partition(".")[0] not in above, f"{path}: {module}"


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
