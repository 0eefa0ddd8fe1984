"""Checks of a profile's needs, before hours are spent on a run."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks import BENCHMARKS
from benchmarks.base import parquet_rows
from c3l.artifacts.graph import closure
from c3l.runtime import extras
from c3l.runtime.errors import UserError
from repro import inputs, recipe
from repro.estimate.devices import GIB
from repro.estimate.workload import training_mode
from repro.profile import Profile
from repro.rows import ALL, PUBLISHED, TABLES
from repro.run.preflight import require_answer
from repro.stages.evaluation import configured_judge

EXTRAS = {
    "eval": "packages for benchmarks",
    "quant": "package for tuning=qlora",
    "report": "packages for figures and the report",
}


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    part: str
    status: str
    remedy: str = ""
    """What to do; "" where nothing is missing."""
    needed: bool = True
    """Nothing runs without it. Else only some cells stay unscored."""


def render_findings(findings: list[Finding]) -> str:
    """Return markdown: each check, its finding and what to do."""
    marks = {(True, True): "MISSING", (True, False): "absent"}
    rows = [
        [marks.get((bool(f.remedy), f.needed), "ok"), f.part, f.status, f.remedy] for f in findings
    ]
    return tabulate(rows, ["", "what", "found", "what to do"], tablefmt="pipe")


def examine_profile(profile: Profile, runs: Path, seeds: int = 3) -> Iterator[Finding]:
    """Yield all findings about a profile whose runs lie in `runs`. Sends the judge one question."""
    yield from _packages()
    yield from _machine()
    yield _disk(profile, runs, seeds)
    for label, backbone in profile.backbones.items():
        yield _run_check(f"backbone {label}", _backbone, backbone.weights)
    for label, served in profile.served.items():
        yield _run_check(f"backbone {label}", require_answer, served, needed=False)
    yield from _data(profile)
    if any(BENCHMARKS[task].needs_judge for task in profile.scoring.tasks.values()):
        yield _judge(profile)


def _run_check(
    part: str, check: Callable[..., str], *arguments: Any, needed: bool = True
) -> Finding:
    """Return the status that `check` returns, or its UserError as the remedy."""
    try:
        return Finding(part, check(*arguments))
    except (UserError, ModuleNotFoundError) as error:
        hint = extras.hint(error) if isinstance(error, ModuleNotFoundError) else None
        return Finding(part, "not usable", hint or str(error), needed)


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wrong, versions = [], {}
    missing: dict[str, list[str]] = {}  # packages by extra
    for text in metadata.requires("c3l") or []:
        requirement = Requirement(text)
        extra = next((e for e in EXTRAS if f'extra == "{e}"' in str(requirement.marker)), "")
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            versions[requirement.name] = version = metadata.version(requirement.name)
            fits = requirement.specifier.contains(version, prereleases=True)
        except metadata.PackageNotFoundError:
            if extra:
                missing.setdefault(extra, []).append(requirement.name)
                continue
            version, fits = "is not installed", False
        if not fits:
            wrong.append(f"{requirement.name} {version} (needed: {requirement})")
    install = "pip install -c constraints.txt -e '.[eval,quant,report]' in the repository"
    main = ", ".join(f"{name} {versions.get(name)}" for name in ("torch", "transformers"))
    status = "; ".join(wrong) or f"all {len(versions)}, {main}"
    yield Finding("packages", status, install if wrong else "")
    for extra, names in missing.items():
        absent = f"{', '.join(names)} {'are' if names[1:] else 'is'} not installed"
        yield Finding(EXTRAS[extra], absent, f"pip install 'c3l[{extra}]'", needed=extra == "eval")
    yield _run_check("torch with torchvision", _torchvision)


def _torchvision() -> str:
    import torch

    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"torchvision is of another build than torch ({reason}); install both from one place: "
            "pip install -c constraints.txt torch torchvision"
        ) from error
    return f"{torch.__version__} with {torchvision.__version__}"


def _machine() -> Iterator[Finding]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield Finding("CPUs", f"{os.cpu_count()}, {memory:.0f} GiB of memory")
    descriptions = [
        f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB, capability {gpu.major}.{gpu.minor}"
        for gpu in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ]
    yield Finding("GPUs", "; ".join(descriptions) or "none: the pocket profile needs none")


def _disk(profile: Profile, runs: Path, seeds: int) -> Finding:
    """Compare the free space with the size of all tables, less the size of the runs folder.

    Nothing runs without room for one model; without room for all of them some tables do.
    """
    folder = next(path for path in (runs, *runs.absolute().parents) if path.exists()).absolute()
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        remedy = f"{folder} cannot be written; give another folder with --runs"
        return Finding("disk", "not usable", remedy)
    free = shutil.disk_usage(folder).free
    status = f"{free / GIB:.1f} GiB free at {folder}"
    try:
        need, one_model = _need(profile, seeds)
    except UserError:  # a missing backbone, which has a finding of its own
        return Finding("disk", status)
    used = sum(path.stat().st_size for path in runs.rglob("*") if path.is_file())
    status += f"; `all --seeds {seeds}` writes some {need / GIB:.1f} GiB"
    status += f", of which {used / GIB:.1f} GiB may be there" if used else ""
    remedy = "make room, or give a folder on a larger disk with --runs"
    if free < one_model:
        return Finding("disk", status, f"{remedy}: one model takes {one_model / GIB:.1f} GiB")
    if free < need - used:
        return Finding("disk", status, f"{remedy}, or run fewer tables or seeds", needed=False)
    return Finding("disk", status)


def _need(profile: Profile, seeds: int) -> tuple[float, float]:
    """Return the bytes that all tables write, and those of one model with its checkpoints."""
    from repro.estimate.devices import device_named
    from repro.estimate.plan import Estimator
    from repro.run.run import cells

    data = inputs.placeholder_inputs(profile, (row for name in ALL for row in TABLES[name].rows))
    tables = (cells(TABLES[name], profile, data, list(range(seeds))) for name in ALL)
    targets = [stage for table in tables for stage in recipe.stages(table)]
    estimator = Estimator(device_named(None), profile)
    stages = closure(targets).values()
    # While a model trains, the last checkpoint stays until the next one is complete.
    training = [
        (estimator.bytes_on_disk(stage), 2 * estimator.checkpoint_bytes(stage))
        for stage in stages
        if training_mode(stage)
    ]
    checkpoints = max((checkpoint for _, checkpoint in training), default=0.0)
    one_model = max(map(sum, training), default=0.0)
    return sum(map(estimator.bytes_on_disk, stages)) + checkpoints, one_model


def _backbone(path: str) -> str:
    from c3l.backbones.loading import inspect
    from c3l.runtime.hub import check_seal, weights_folder

    family, parameters, size = inspect(path)
    check_seal(weights_folder(path, fetch=False))
    amount = f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"
    return f"{family}, {parameters:,} parameters, {amount}"


def _data(profile: Profile) -> Iterator[Finding]:
    if profile.data == "pocket":
        yield Finding("images and benchmarks", "the pocket world, made on first use")
        return
    folder, sizes = Path(profile.data), profile.sizes
    for part, count in (("initial", sizes.initial_images), ("final", sizes.final_images)):
        yield _run_check(f"{part} images", _images, folder / part / "images", count)
    for column, task in profile.scoring.tasks.items():
        yield _run_check(f"benchmark {column}", _benchmark, folder, task)
    first = {backbone.tuned_on for backbone in profile.backbones.values()}
    for label, name in PUBLISHED.items():
        place, needed = folder / "comparison" / name, name in first
        yield _run_check(f"data set {label}", _comparison, place, needed=needed)


def _images(folder: Path, count: int) -> str:
    from c3l.samples import ImageFolder
    from c3l.stages.common import image_names

    names = image_names(folder, count)
    ImageFolder(folder)[names[0]]  # raises where images cannot be read
    return f"{count} images are used of {len(ImageFolder(folder).names())} in {folder}"


def _benchmark(folder: Path, task: str) -> str:
    path = inputs.benchmark_folder(folder, task)
    return f"{parquet_rows(path):,} rows in {path}"


def _comparison(folder: Path) -> str:
    from c3l.samples import read_records

    files = sorted((folder / "data").glob("*"))
    if not files:
        raise UserError(
            f"put the published files into {folder / 'data'} and their images into "
            f"{folder / 'images'}, or leave its rows unscored"
        )
    records = sum(1 for file in files for _ in read_records(file))
    return f"{records:,} records in {folder / 'data'}"


def _judge(profile: Profile) -> Finding:
    judge = configured_judge(profile.scoring)
    if judge is None:
        remedy = "give --judge https://…/v1, or leave LLaVA^W unscored"
        return Finding("judge", "none", remedy, needed=False)
    return _run_check("judge", require_answer, judge, needed=False)
