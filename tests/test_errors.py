"""Every error that is raised on purpose is one line, and stays one between processes."""

import pickle

import pytest

from xray_captioning import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_one_line_whatever_it_quotes(kind):
    error = kind("a.parquet: is no table (page header failed.\r\n  again\u2028); copy it")
    assert str(error) == "a.parquet: is no table (page header failed. again ); copy it"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
