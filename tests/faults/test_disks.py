"""Full and read-only disks: real ones, small file systems in memory that only root may mount."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from c3l.artifacts.store import Job, Stage, Store
from c3l.runtime.errors import UserError
from tests.faults import world
from tests.faults.running import contents, damaged, leftovers, what_lasts
from tests.repro import toy


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes. Skips the test where it may not be mounted."""
    folder.mkdir()
    if mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def mount(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)


def by_torch(path: Path) -> None:
    import torch

    torch.save(torch.zeros(500_000), path)


def by_safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(500_000)}, path)


def by_pyarrow(path: Path) -> None:
    import numpy as np
    import pandas as pd

    pd.DataFrame({"value": np.random.default_rng(0).random(250_000)}).to_parquet(path)


def by_pillow(path: Path) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")


def by_python(path: Path) -> None:
    path.write_bytes(b"\0" * 2_000_000)


WRITERS = {
    writer.__name__.removeprefix("by_"): writer
    for writer in (by_torch, by_safetensors, by_pyarrow, by_pillow, by_python)
}


def write(job: Job) -> dict:
    """Two megabytes, by the library that the configuration names."""
    WRITERS[job.config["by"]](job.out / "file")
    return {}


@pytest.mark.parametrize("by", WRITERS)
def test_a_full_disk_is_one_sentence_whichever_library_meets_it(tmp_path, record_fault, by):
    stage = Stage("big", 1, write, {"by": by})
    with disk(tmp_path / "disk", 1_500_000) as folder, record_fault("disk", f"full, met by {by}"):
        store = Store(folder / "store")
        small = store.make(Stage("none", 1, nothing))
        with pytest.raises(UserError, match=r"cannot be written .No space left on device.; make"):
            store.make(stage)
        assert not list(store.root.glob("*/.tmp-*"))
        assert small.is_dir()
        mount("-o", "remount,size=10000000", folder)
        assert store.make(stage)
        assert not damaged(folder)
        assert not leftovers(folder)


def nothing(job: Job) -> dict:
    return {}


def test_a_disk_that_turns_read_only_is_one_sentence(tmp_path, record_fault):
    stage = Stage("big", 1, write, {"by": "python"})
    with disk(tmp_path / "disk", 10_000_000) as folder, record_fault("disk", "turned read-only"):
        store = Store(folder / "store")
        mount("-o", "remount,ro", folder)
        with pytest.raises(UserError, match=r"cannot be written .Read-only file system.; make"):
            store.make(stage)
        mount("-o", "remount,rw", folder)
        assert store.make(stage)


def test_a_run_on_a_full_or_a_read_only_disk(small_profile, undisturbed, tmp_path, record_fault):
    """It ends with exit 2 and one sentence, and with room it ends as the undisturbed one."""
    skip = shutil.ignore_patterns("small", "vlit", "evaluation")
    with disk(tmp_path / "disk", 2**20) as folder:
        runs = folder / "runs"
        mount("-o", "remount,size=1g", folder)
        shutil.copytree(undisturbed, runs, ignore=skip)
        used = shutil.disk_usage(folder).used
        for state, options in (
            ("full", f"remount,size={used + 2_000_000}"),
            ("read-only", "remount,ro"),
        ):
            mount("-o", options, folder)
            with record_fault("disk", f"{state}, of a run"):
                done = toy.repro(*world.options(small_profile, runs, jobs=1))
                assert done.returncode == 2, done.stderr
                assert "cannot be written" in done.stderr
                assert "Traceback" not in done.stderr
                assert not damaged(runs)
        mount("-o", "remount,rw,size=1g", folder)
        with record_fault("disk", "with room again, the run goes on to its end"):
            done = toy.repro(*world.options(small_profile, runs, jobs=1))
            assert done.returncode == 0, done.stderr
            assert not leftovers(runs)
            assert contents(runs) == contents(undisturbed)
            assert what_lasts(runs) == what_lasts(undisturbed)
