"""The clocks of the database and of this machine."""

from __future__ import annotations

from typing import NamedTuple


class ClockSample(NamedTuple):
    """Both clocks at one moment, in Unix seconds, as well as a question to the database can tell."""

    # This machine's clock in the middle of the question.
    local: float
    database: float
    # How long the question took, in seconds: the database looked at its clock at some time of it.
    round_trip: float
