"""The base of all records of settings."""

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
    """Return a field that older records do not have, with limits as in pydantic's Field.

    At its default, which is how those were made, it is left out of every dump, key and digest.
    """
    return Field(default, exclude_if=lambda value: value == default, **limits)
