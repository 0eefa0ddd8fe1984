"""The commit of this code, and none of another repository's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c3l.artifacts import provenance

UNKNOWN = re.compile(r"unknown \(c3l [0-9.]+, sources [0-9a-f]{8}\)")
ROOT = Path(__file__).parents[3]


def git(folder: Path, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    who += ["-c", "safe.directory=*", "-c", "protocol.file.allow=always"]
    command = ["git", *who, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(autouse=True)
def asked_anew():
    yield
    provenance.commit.cache_clear()


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """A function that says which commit a copy of this code in a folder has."""

    def commit(root: Path) -> str:
        if not (root / "c3l").is_dir():
            shutil.copytree(ROOT / "c3l", root / "c3l", ignore=shutil.ignore_patterns("convert"))
        monkeypatch.setattr(
            provenance, "__file__", str(root / "c3l" / "artifacts" / "provenance.py")
        )
        provenance.commit.cache_clear()
        return provenance.commit()

    return commit


def repository(folder: Path, *, add: str = ".") -> str:
    """Make a folder a repository with all that is in it; its commit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README").write_text("somebody's")
    git(folder, "init", "-q")
    git(folder, "add", add)
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_a_clone_is_at_its_commit(unpacked, tmp_path):
    unpacked(tmp_path / "clone")
    head = repository(tmp_path / "clone")
    assert unpacked(tmp_path / "clone") == head
    (tmp_path / "clone" / "c3l" / "packing.py").write_text("")
    assert unpacked(tmp_path / "clone") == f"{head}-dirty"


def test_a_tag_changes_nothing(unpacked, tmp_path):
    unpacked(tmp_path)
    head = repository(tmp_path)
    git(tmp_path, "tag", "v1")
    assert unpacked(tmp_path) == head


def test_a_worktree_and_a_submodule_are_at_their_own_commits(unpacked, tmp_path):
    unpacked(tmp_path / "clone")
    head = repository(tmp_path / "clone")
    git(tmp_path / "clone", "worktree", "add", "-q", str(tmp_path / "tree"))
    assert unpacked(tmp_path / "tree") == head
    other = repository(tmp_path / "other")
    git(tmp_path / "other", "submodule", "add", "-q", str(tmp_path / "clone"), "sub")
    git(tmp_path / "other", "commit", "-q", "-m", "second")
    assert other != head
    assert unpacked(tmp_path / "other" / "sub") == head


@pytest.mark.parametrize("place", ["c3l-0.1.0", ".venv/lib/python3.11/site-packages"])
@pytest.mark.parametrize("state", ["untracked", "ignored", "added", "empty"])
def test_another_repository_around_it_is_not_its_own(unpacked, tmp_path, place, state):
    if state == "empty":
        git(tmp_path, "init", "-q")
    else:
        repository(tmp_path)
    if state == "ignored":
        (tmp_path / ".gitignore").write_text("*\n")
    unpacked(tmp_path / place)
    if state == "added":  # but in no commit yet
        git(tmp_path, "add", ".")
    assert UNKNOWN.fullmatch(unpacked(tmp_path / place))


def test_variables_of_another_repository_count_for_nothing(unpacked, tmp_path, monkeypatch):
    unpacked(tmp_path / "clone")
    head = repository(tmp_path / "clone")
    repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert unpacked(tmp_path / "clone") == head
    assert UNKNOWN.fullmatch(unpacked(tmp_path / "archive"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "archive"))
    assert UNKNOWN.fullmatch(unpacked(tmp_path / "archive"))


def test_a_bare_repository_around_it_is_not_its_own(unpacked, tmp_path):
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    assert UNKNOWN.fullmatch(unpacked(tmp_path / "bare.git" / "hooks"))


def test_without_git_nothing_is_known(unpacked, tmp_path, monkeypatch):
    unpacked(tmp_path)
    repository(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert UNKNOWN.fullmatch(unpacked(tmp_path))


def test_a_damaged_repository_says_nothing(unpacked, tmp_path):
    unpacked(tmp_path)
    repository(tmp_path)
    (tmp_path / ".git" / "HEAD").write_text("nothing")
    assert UNKNOWN.fullmatch(unpacked(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_clone_of_another_users_counts_where_the_code_is_theirs(unpacked, tmp_path):
    clone = tmp_path / "clone"
    unpacked(clone)
    head = repository(clone)
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 12345, 12345)
    assert unpacked(clone) == head
    os.chown(
        clone / "c3l" / "artifacts" / "provenance.py", 0, 0
    )  # a repository that a stranger made around it
    assert UNKNOWN.fullmatch(unpacked(clone))


def test_the_digest_is_of_the_sources(unpacked, tmp_path):
    before = unpacked(tmp_path / "a")
    assert unpacked(tmp_path / "b") == before
    (tmp_path / "b" / "c3l" / "packing.py").write_text("# changed")
    assert unpacked(tmp_path / "b") != before
    (tmp_path / "a" / "notes.txt").write_text("anything")
    assert unpacked(tmp_path / "a") == before


def test_the_version_is_that_of_the_unpacked_project(unpacked, tmp_path):
    unpacked(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "c3l"\nversion = "9.9"\n')
    assert unpacked(tmp_path).startswith("unknown (c3l 9.9, sources ")


def test_a_table_names_no_repository_that_git_variables_point_to(tmp_path):
    """The real process, as a git hook starts it."""
    other = repository(tmp_path)
    code = "from c3l.artifacts.provenance import commit; print(commit())"
    environment = os.environ | {"GIT_DIR": str(tmp_path / ".git"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert other not in done.stdout
    assert done.stdout.strip() == provenance.commit()
