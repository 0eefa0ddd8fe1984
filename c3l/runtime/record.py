"""What all records of settings have in common."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Record(BaseModel):
    """Frozen, without unknown fields; a number is one: not NaN, not infinite, not true or false."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{str(value).lower()} is no number")
        return value


def later_field(default: Any, **limits: Any) -> Any:
    """A field that records of before do not have: left out of a dump, and so of every key and
    digest, at its default, which is how those were made. `limits` as in pydantic's Field."""
    return Field(default, exclude_if=lambda value: value == default, **limits)
