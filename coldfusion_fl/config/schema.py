"""The base class of all tables of settings, and the types of their values.

A setting is one field of a table: its name, type, limits, default and sentence stand together ::

    rounds: int = Field(10, ge=1, description="Number of rounds.")

TOML files, Flower's run-config, the strategy's arguments, `coldfusion settings`, the JSON schema and the messages about
wrong values follow from it.
"""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from coldfusion_fl.config.messages import settings_error
from coldfusion_fl.config.tables import dashed, split_names

# Marks a setting that may differ when a run resumes: `Field(..., json_schema_extra=CAN_CHANGE)`.
CAN_CHANGE: dict[str, Any] = {"can-change-on-resume": True}
# Tells a table that the caller of the validation translates its errors.
TRANSLATED_BY_CALLER = {"translated-by-caller": True}


class SettingsTable(BaseModel):
    """A table of settings. In files its keys have dashes, in Python underscores.

    Values are not converted: the text "1" is not accepted as a number, and neither is true. A whole number is a valid
    number.

    Raises:
        SettingsError: a value that is given to the constructor is unknown, missing, of another type or out of range.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=dashed,
        validate_by_name=True,
        validate_by_alias=True,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _translate_errors(cls, values: Any, handler: ModelWrapValidatorHandler[Any], info: ValidationInfo) -> Any:
        # `parse_table` knows the file and the full key, so it translates the errors of all tables of a file itself.
        if info.context == TRANSLATED_BY_CALLER:
            return handler(values)
        try:
            return handler(values)
        except ValidationError as error:
            raise settings_error(error, cls, cls.__name__) from None


def _read_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return split_names(value)
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of names, or one text with commas between them")
    return tuple(name for name in value if name)


def _read_whole_numbers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(number) is int and number >= 0 for number in value):
        raise ValueError("must be a list of whole numbers of at least 0, such as [0, 5, 10]")
    return tuple(value)


# A list of names may be one text with commas, because Flower's run-config holds no lists.
Names = Annotated[tuple[str, ...], BeforeValidator(_read_names, json_schema_input_type=list[str] | str)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_read_whole_numbers, json_schema_input_type=list[int])]
