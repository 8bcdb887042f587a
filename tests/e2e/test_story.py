"""The first story comes out as it is told, twice on the same data."""

from __future__ import annotations

from tests.support.stack import START_PATIENCE, stack_directory, start_stack


def test_story_comes_out_as_told_again_and_again() -> None:
    with stack_directory() as data_dir:
        for _ in range(2):
            stack = start_stack(data_dir, "--ports", "auto", "--story", "--once")
            code = stack.process.wait(START_PATIENCE)
            assert code == 0, stack.log
            assert "DIFFERS" not in stack.log
            assert "\033[" not in stack.log
            print(stack.log)
