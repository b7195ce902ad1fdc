"""What all events have."""

import time

from pydantic import BaseModel, ConfigDict, Field


class BaseEvent(BaseModel):
    """Base of the events.

    Attributes:
        time: when it happened, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float = Field(default_factory=time.time)
