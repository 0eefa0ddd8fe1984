"""A profile: the backbones, images and sizes that the tables run on, from a YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

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
    """The backbone behind a label of the tables' rows. A profile may give its weights alone."""

    weights: str
    """A folder, or the id of a model on the Hub."""
    tuned_on: Literal[tuple(PUBLISHED.values())] | None = None  # type: ignore[valid-type]
    """A published data set that it is tuned on first, with the settings `training.first`."""
    readings: dict[str, Any] = Field({})
    """Its changes to the profile's readings."""

    @model_validator(mode="before")
    @classmethod
    def _weights_alone(cls, value: Any) -> Any:
        return {"weights": value} if isinstance(value, str) else value


class Sizes(Record):
    """Numbers of images, samples and models."""

    initial_images: int = Field(ge=1)
    final_images: int = Field(ge=1)
    final_samples: int = Field(ge=1)
    """Drawn from what the generator writes on the final images."""
    tuning_seeds: int = Field(ge=1)
    """Models tuned on each final data set; a cell is their mean."""


class Training(Record):
    """Settings of each kind of training.

    Those with L_c have step sizes of their own: after too large steps the generator writes no
    well-formed pair.
    """

    generator: TrainingSettings
    """L_r alone."""
    contrastive: TrainingSettings
    """L_c alone."""
    joint: TrainingSettings
    """L_r + λ L_c."""
    vlit: TrainingSettings
    first: TrainingSettings | None = None
    """For a backbone that is `tuned_on` a published data set first."""

    def settings_for(self, *, crm: bool, clm: bool) -> TrainingSettings:
        """Return the settings of a generator trained with L_r if `crm` and with L_c if `clm`."""
        if crm and clm:
            return self.joint
        return self.generator if crm else self.contrastive


ADDRESS = f"address of a judge: {ADDRESS_HINT}, or pocket for the pocket judge"


class Price(Record):
    """A judge's prices, in any currency."""

    input: float = Field(ge=0)
    """For a million tokens that it reads."""
    output: float = Field(ge=0)
    """For a million tokens that it writes."""


class Scoring(Record):
    """Settings of I²C scores and benchmarks. In half precision, batch sizes alter results."""

    i2c_batch_size: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    answer_tokens: int = Field(ge=1)
    """The most tokens of an answer; a benchmark that asks for fewer gets fewer."""
    tasks: dict[str, str]
    """The benchmark behind a column, one of `benchmarks.BENCHMARKS`: SEED may be seedbench or
    seedbench_ppl."""
    judge: str | None = None
    """The judge of LLaVA^W: "pocket", the address of an OpenAI-compatible server without
    "/chat/completions", or null. Never a key: it would appear in every manifest."""
    judge_model: Annotated[str, AfterValidator(parse_model_name)] = "gpt-4o-2024-11-20"
    """The model at an address; lmms-eval's own choice. The GPT-4 of the published numbers is
    retired."""
    judge_key: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key of an address, not the key."""
    judge_strip_thinking: bool = Field(False, exclude_if=lambda strip: not strip)
    """Drop the <think> block that an address's replies begin with, and allow more time and tokens
    (docs/judge.md)."""
    judge_price: Price | None = Field(None, exclude_if=lambda price: price is None)
    """For `plan`, which assumes no price."""

    @field_validator("judge")
    @classmethod
    def _judge_is_an_address(cls, judge: str | None) -> str | None:
        return judge if judge in (None, "pocket") else parse_base_url(judge, ADDRESS)

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, tasks: dict[str, str]) -> dict[str, str]:
        for task in tasks.values():
            if task not in BENCHMARKS:
                names = ", ".join(BENCHMARKS)
                raise ValueError(f"there is no benchmark {task!r}; use one of {names}")
        return tasks


class Expected(Record):
    """Measured times of a run on the CPU, for `plan`, which estimates the others."""

    seconds: dict[str, float] = Field({})
    """By stage name, on one core of an ordinary machine."""
    factors: dict[str, float] = Field({})
    """Seconds divided by `repro.estimate.workload.relative_cost`, where stages of one name differ
    in their work."""
    memory_gib: float | None = None
    """One worker process's memory."""


class Profile(Record):
    """One frozen record; see profiles/pocket.yaml for what the values mean there."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """Name of the folder with the tables; by default the file's."""
    data: str
    """"pocket" for the synthetic world, or a folder laid out like it."""
    backbones: dict[str, BackboneSpec]
    """By the label that rows name."""
    served: dict[str, Served] = Field({})
    """Models at an address, by label: scored as they are, never trained. VisualGLM and BLIP-2 can
    be had at the paper's sizes only so."""
    sizes: Sizes
    share: float = Field(gt=0, le=1)
    """Share of the initial samples, best by I²C, that become L_r's targets."""
    generation: GenerationSettings
    training: Training
    scoring: Scoring
    readings: Readings = Readings()
    resamples: int | None = Field(None, ge=100)
    """Without effect: intervals were once bootstrapped, and older profiles say so."""
    expected: Expected = Expected()

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
        """Return the profile's readings, changed for a backbone and then by `changes`."""
        return Readings(**self.readings.model_dump() | self.backbones[label].readings | changes)

    def with_tuning_seeds(self, *, at_most: int) -> "Profile":
        """Return the profile with at most so many tuning seeds."""
        fewer = {"tuning_seeds": min(at_most, self.sizes.tuning_seeds)}
        return self.model_copy(update={"sizes": self.sizes.model_copy(update=fewer)})


def load(name: str, changes: list[str] | None = None) -> Profile:
    """Load a profile by name or file, with `--set` changes such as "sizes.final_images=50".

    Relative paths in a file are relative to the file, those in changes to the current folder.
    Raises UserError that names the profile, key or value that is wrong.
    """
    path = PROFILES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise UserError(f"There is no profile {name!r}: give one of {names}, or a YAML file.")
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
    """Return the profile's values, with relative paths resolved against `folder`."""
    values = values_of(profile)

    def place(name: str) -> str:
        on_the_hub = is_id(name) and not (folder / name).is_dir()
        return name if on_the_hub else str((folder / name).resolve())

    for backbone in values["backbones"].values():
        backbone["weights"] = place(backbone["weights"])
    if profile.data != "pocket":
        values["data"] = str((folder / profile.data).resolve())
    return values
