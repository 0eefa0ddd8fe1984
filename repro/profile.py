"""A profile: on which backbones, images and sizes the tables run, from a YAML file."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from benchmarks import BENCHMARKS
from benchmarks.api.address import ADDRESS_HINT, parse_base_url, parse_model_name
from benchmarks.served import Served
from c3l.readings import Readings
from c3l.runtime import parsing
from c3l.runtime.errors import UserError
from c3l.runtime.hub import is_id
from c3l.runtime.overrides import apply_overrides, first_wrong, validate, values_of
from c3l.runtime.record import Record
from c3l.settings import GenerationSettings, TrainingSettings
from repro.rows import PUBLISHED

PROFILES = Path(__file__).parent / "profiles"


class BackboneSpec(Record):
    """What the label of a backbone in the tables' rows stands for. Where there is nothing but the
    weights to say, a profile has them in place of this record."""

    weights: str
    """A folder, or the id of a model on the Hub."""
    tuned_on: Literal[tuple(PUBLISHED.values())] | None = None
    """Others' data that it is tuned on before anything else, as `training.first` says."""
    readings: dict[str, Any] = Field({})
    """Those that differ for it from the profile's."""


class Sizes(Record):
    """How much is made and measured."""

    initial_images: int = Field(ge=1)
    final_images: int = Field(ge=1)
    final_samples: int = Field(ge=1)
    """Drawn from what the generator writes on the final images."""
    tuning_seeds: int = Field(ge=1)
    """Models tuned on each final data set; a cell is their mean."""


class Training(Record):
    """How each kind of training is done. What L_c is part of has step sizes of its own: too large
    a one and the generator writes no well-formed pair any more."""

    generator: TrainingSettings
    """L_r alone."""
    contrastive: TrainingSettings
    """L_c alone."""
    joint: TrainingSettings
    """L_r + λ L_c."""
    vlit: TrainingSettings
    first: TrainingSettings | None = None
    """Of a backbone that is `tuned_on` others' data first."""

    def settings_for(self, *, crm: bool, clm: bool) -> TrainingSettings:
        """The settings of a generator trained with L_r if `crm` and with L_c if `clm`."""
        if crm and clm:
            return self.joint
        return self.generator if crm else self.contrastive


ADDRESS = f"address of a judge: {ADDRESS_HINT}, or pocket for the pocket judge"


class Price(Record):
    """Of a judge, in whatever currency."""

    input: float = Field(ge=0)
    """Of a million tokens that it reads."""
    output: float = Field(ge=0)
    """Of a million tokens that it writes."""


class Scoring(Record):
    """I²C scores and benchmarks. In half precision batch sizes are part of a result."""

    i2c_batch_size: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    answer_tokens: int = Field(ge=1)
    """The most tokens of an answer; a benchmark that asks for fewer gets fewer."""
    tasks: dict[str, str]
    """The benchmark behind a column, one of `benchmarks.BENCHMARKS`: SEED may be seedbench or
    seedbench_ppl."""
    judge: str | None = None
    """Who judges LLaVA^W: "pocket", the address of an OpenAI-compatible server up to and without
    "/chat/completions", or nobody. Never a key: it would stand in every manifest."""
    judge_model: str = "gpt-4o-2024-11-20"
    """The model asked for at an address; lmms-eval's own choice. The published numbers are those of
    a GPT-4 that is no more."""
    judge_key: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key of an address, not the key."""
    judge_strip_thinking: bool = Field(False, exclude_if=lambda strip: not strip)
    """Take an address's replies for what follows the <think> block that they open with; more time
    and tokens for one (docs/judge.md)."""
    judge_price: Price | None = Field(None, exclude_if=lambda price: price is None)
    """What `plan` reckons with; nothing is assumed where it is not said."""

    @field_validator("judge")
    @classmethod
    def _judge_is_an_address(cls, judge: str | None) -> str | None:
        return judge if judge in (None, "pocket") else parse_base_url(judge, ADDRESS)

    @field_validator("judge_model")
    @classmethod
    def _judge_has_a_name(cls, model: str) -> str:
        return parse_model_name(model)

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, tasks: dict[str, str]) -> dict[str, str]:
        for task in tasks.values():
            if task not in BENCHMARKS:
                names = ", ".join(BENCHMARKS)
                raise ValueError(f"there is no benchmark {task!r}; use one of {names}")
        return tasks


class Expected(Record):
    """What a run on the CPU was measured to take, for `plan` to say before the next one is. What is
    not said is reckoned (`repro.estimate.cost`)."""

    seconds: dict[str, float] = Field({})
    """Of one stage of each name, on one core of an ordinary machine."""
    factors: dict[str, float] = Field({})
    """Likewise, where stages of one name differ by what they have to do: their seconds, by those of
    `repro.estimate.workload.relative_cost`."""
    memory_gib: float | None = None
    """Of one worker process."""


class Profile(Record):
    """One frozen record; see profiles/pocket.yaml for what the values mean there."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """Of the folder with the tables; the file's name unless given."""
    data: str
    """"pocket" for the made world, or a folder laid out like it."""
    backbones: dict[str, BackboneSpec]
    """By the label that rows name."""
    served: dict[str, Served] = Field({})
    """Likewise, in place of weights: scored as they are, never trained. For VisualGLM and BLIP-2
    there is no other way at the paper's sizes."""
    sizes: Sizes
    share: float = Field(gt=0, le=1)
    """Of the initial samples, the best ones by I²C that become L_r's targets."""
    generation: GenerationSettings
    training: Training
    scoring: Scoring
    readings: Readings = Readings()
    resamples: int = Field(ge=100)
    """Of the bootstrap."""
    expected: Expected = Expected()

    @field_validator("backbones", mode="before")
    @classmethod
    def _weights_alone(cls, backbones: Any) -> Any:
        if not isinstance(backbones, dict):
            return backbones
        return {
            label: {"weights": value} if isinstance(value, str) else value
            for label, value in backbones.items()
        }

    @model_validator(mode="after")
    def _backbones_are_whole(self) -> "Profile":
        for label, backbone in self.backbones.items():
            if backbone.tuned_on and not self.training.first:
                raise ValueError(f"training.first is needed: {label} is tuned_on other data first")
            try:
                self.readings_of(label)
            except ValidationError as error:
                key, reason = first_wrong(error)
                raise ValueError(f"backbones.{label}.readings.{key}: {reason}") from error
        return self

    def readings_of(self, label: str, **changes: Any) -> Readings:
        """The profile's readings with those that differ for a backbone, and then these changes."""
        return Readings(**self.readings.model_dump() | self.backbones[label].readings | changes)

    def with_tuning_seeds(self, *, at_most: int) -> "Profile":
        """The same with fewer tuning seeds, if it has more."""
        fewer = min(at_most, self.sizes.tuning_seeds)
        return self.model_copy(
            update={"sizes": self.sizes.model_copy(update={"tuning_seeds": fewer})}
        )


def load(name: str, changes: list[str] | None = None) -> Profile:
    """A profile by name or file, with `--set` changes such as "sizes.final_images=50".

    Relative paths in a file are relative to the file, those in changes to the current folder.
    Raises UserError that names the profile, key or value that is wrong.
    """
    path = PROFILES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise UserError(f"There is no profile {name!r}: give one of {known}, or a YAML file.")
    try:
        values = parsing.from_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # Unicode errors too
        raise UserError(f"The profile {path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f"The profile {path} is not a mapping of keys to values.")
    profile = validate(Profile, {"name": path.stem} | values, f"The profile {path}")
    profile = Profile.model_validate(_with_paths(profile, path.parent))
    if not changes:
        return profile
    profile = apply_overrides(profile, changes, "a profile")
    return Profile.model_validate(_with_paths(profile, Path.cwd()))


def _with_paths(profile: Profile, folder: Path) -> dict[str, Any]:
    """The profile's values, with relative paths read from `folder`."""
    values = values_of(profile)

    def place(name: str) -> str:
        on_the_hub = is_id(name) and not (folder / name).is_dir()
        return name if on_the_hub else str((folder / name).resolve())

    for backbone in values["backbones"].values():
        backbone["weights"] = place(backbone["weights"])
    if profile.data != "pocket":
        values["data"] = str((folder / profile.data).resolve())
    return values
