"""`python -m tests.fuzz 1000000` sends that many different requests to a stack of its own (`make fuzz`)."""

from __future__ import annotations

import sys

from tests.fuzz.run import fuzz_of
from tests.support.stack import RealPdp, running_stack


def main(number: int) -> None:
    with running_stack() as stack:
        fuzz_of(RealPdp(stack=stack)).run(number, lambda text: print(text, flush=True))


main(int(sys.argv[1]))
