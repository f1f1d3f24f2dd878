"""Cells of tables."""

import pytest

from xray_captioning.evaluation.table import format_cell, format_markdown


@pytest.mark.parametrize(("value", "cell"), [(0.5, "0.500"), (3, "3"), (None, "-"), (float("nan"), "-"), ("a", "a")])
def test_a_share_of_nothing_is_a_dash_in_every_table(value: object, cell: str) -> None:
    assert format_cell(value) == cell
    assert format_markdown([{"a": value}]).splitlines()[-1].strip("| ") == cell
