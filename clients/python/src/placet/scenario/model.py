"""The types that every part of a scenario's format is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, WithJsonSchema


class Part(BaseModel):
    """A mapping of the format. A field that it does not have is a fault."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    def given(self) -> dict[str, Any]:
        """Return the fields that the file gives."""
        return self.model_dump(exclude_unset=True)


# Names that a file gives to sessions and calls.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Json = Annotated[Any, WithJsonSchema({})]
JsonObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]
