"""Options that several commands of `repro.cli` share."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from c3l.cli.common import option
from c3l.runtime.errors import UserError

if TYPE_CHECKING:
    from repro.profile import Profile

ProfileOption = Annotated[
    str,
    option("--profile", "NAME|FILE", "pocket, practical, practical-24gb, paper, or a YAML file"),
]
SeedsOption = Annotated[int, option("--seeds", "N", "how many data seeds", min=1)]
SetOption = Annotated[
    list[str] | None,
    option("--set", "KEY=VALUE", "change a value of the profile: sizes.final_images=50"),
]
JudgeOption = Annotated[
    str | None,
    option(
        "--judge",
        "URL",
        "who judges LLaVA^W: an OpenAI-compatible address, or pocket (wins over --set)",
    ),
]
JudgeModelOption = Annotated[
    str | None, option("--judge-model", "NAME", "the model asked for there")
]
RunsOption = Annotated[Path, option("--runs", "DIR", "where everything is kept")]
JobsOption = Annotated[
    int | None,
    option("--jobs", "N", "worker processes (default: one a processor; on a GPU one)", min=1),
]
EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine", help="where the workers run: ray takes the cluster that RAY_ADDRESS names"
    ),
]


@dataclass(frozen=True)
class Shared:
    """Options of the commands about tables."""

    profile: ProfileOption = "pocket"
    seeds: SeedsOption = 3
    set_: SetOption = None
    judge: JudgeOption = None
    judge_model: JudgeModelOption = None
    runs: RunsOption = Path("runs")

    def load_profile(self) -> "Profile":
        return load_profile(self.profile, self.set_, self.judge, self.judge_model)


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Shared`, its first argument; its own of a name go first."""
    _, *extra = signature(command).parameters.values()
    shared = signature(Shared).parameters
    parameters = {**shared, **{parameter.name: parameter for parameter in extra}}

    @wraps(command)
    def run(**values: Any) -> None:
        options = Shared(**{name: values[name] for name in shared})
        command(options, **{parameter.name: values[parameter.name] for parameter in extra})

    ordered = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in parameters.values()]
    run.__signature__ = Signature(ordered)  # for typer
    return run


def changes_of(set_: list[str] | None, judge: str | None, judge_model: str | None) -> list[str]:
    """The changes of `--set`, and those that --judge and --judge-model stand for: the last wins.

    Raises UserError for what is no address. It is not repeated: it may be the key.
    """
    from benchmarks.api.address import parse_base_url
    from repro.profile import ADDRESS

    if judge is not None and judge != "pocket":
        try:
            parse_base_url(judge, ADDRESS)
        except ValueError as error:
            raise UserError(f"--judge: {error}.") from error
    values = {"scoring.judge": judge, "scoring.judge_model": judge_model}
    # Quoted: a name such as 4o or null is a text.
    named = [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]
    return [*(set_ or []), *named]


def load_profile(
    profile: str, set_: list[str] | None, judge: str | None = None, judge_model: str | None = None
) -> "Profile":
    """Load a profile with the changes of the command line."""
    from repro.profile import load

    return load(profile, changes_of(set_, judge, judge_model))


GPU = Path("/dev/nvidia0")  # torch would take seconds to say whether there is one


def default_jobs() -> int:
    """One worker a processor, and 2 GiB for each; one where they would share a GPU."""
    if GPU.exists():
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(os.cpu_count() or 1, int(memory / 2)))
