import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.batch.journal import Journal
from xray_captioning.errors import ConfigError

HEADER = {"bundle": "abc", "beam size": 3}


def written(path, batches=((1, 2), (3,))):
    with Journal(path, HEADER, resume=False) as journal:
        for batch in batches:
            journal.append(list(batch))
    return path


def test_a_journal_goes_on(tmp_path):
    path = written(tmp_path / "j")
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.batches == [[1, 2], [3]]
        journal.append([4])
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.batches == [[1, 2], [3], [4]]


def test_resume_begins_where_there_is_nothing(tmp_path):
    with Journal(tmp_path / "j", HEADER, resume=True) as journal:
        assert journal.batches == []
    assert (tmp_path / "j").is_file()


@settings(deadline=None)
@given(st.integers(0, 200))
def test_whatever_a_kill_cuts_short_is_dropped(tmp_path_factory, cut):
    path = written(tmp_path_factory.mktemp("j") / "j")
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    with Journal(path, HEADER, resume=True) as journal:
        lines = whole[: min(cut, len(whole))].count(b"\n")
        assert journal.batches == [[1, 2], [3]][: max(lines - 1, 0)]
        for batch in ([1, 2], [3])[len(journal.batches) :]:
            journal.append(batch)
    assert path.read_bytes() == whole


def test_an_unfinished_run_is_not_written_over(tmp_path):
    path = written(tmp_path / "j")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="unfinished run; go on with --resume"):
        Journal(path, HEADER, resume=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["bundle", "beam size"])
def test_another_run_is_named(tmp_path, change):
    path = written(tmp_path / "j")
    with pytest.raises(ConfigError, match=f"begun with another {change}"):
        Journal(path, {**HEADER, change: "other"}, resume=True)


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b"{}\n", b"[1]\n", b"\x00\xff", json.dumps({"a": 1}).encode()]
)
def test_another_file_is_left_alone(tmp_path, content):
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no journal of a run"):
        Journal(path, HEADER, resume=True)
    assert path.read_bytes() == content


def test_two_processes_do_not_write_one_journal(tmp_path):
    pytest.importorskip("fcntl")
    path = written(tmp_path / "j")
    with (
        Journal(path, HEADER, resume=True),
        pytest.raises(ConfigError, match="another process is writing it"),
    ):
        Journal(path, HEADER, resume=True)
    Journal(path, HEADER, resume=True).close()
