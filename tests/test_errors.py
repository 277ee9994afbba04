"""How errors of other packages are told in a line."""

import pytest

from kderm.errors import first_line, reason_of


@pytest.mark.parametrize(
    ("error", "line", "reason"),
    [
        (ValueError("\n no such key \nTraceback ..."), "no such key", "ValueError: no such key"),
        (ValueError(), "ValueError", "ValueError"),
        (OSError(" \n"), "OSError", "OSError"),
        (RuntimeError("a" * 400), "a" * 400, "RuntimeError: " + "a" * 300),
    ],
)
def test_an_error_is_told_by_its_class_and_the_first_line_of_what_it_says(error, line, reason):
    assert first_line(error) == line
    assert reason_of(error) == reason
