"""Sizes in bytes as a user writes them."""

import pytest

from adbench.cli.options import parse_size
from adbench.core.errors import UsageError


@pytest.mark.parametrize(("text", "size"), [("50GB", 50 * 10**9), ("1.5 MB", 1_500_000), ("0", 0), ("7kb", 7000)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size("--max-size", text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "nan", "1e99GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_size("--max-size", text)
    assert str(error.value) == f"--max-size '{text}': write a size, e.g. 50GB or 500MB, or a number of bytes"
