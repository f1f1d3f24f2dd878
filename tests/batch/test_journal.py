import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.batch.caption_table import COLUMNS, PackedStudies, Study, append, begin, open_journal, read_rows
from xray_captioning.errors import ConfigError

RUN = {"bundle": "abc", "beam size": 3}
NAMES = ["1", "2", "3"]
STUDIES = PackedStudies(Study(name, []) for name in NAMES)
ROWS = [{**dict.fromkeys(COLUMNS), "study": name, "caption": "Über\nall\u2028"} for name in NAMES]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> bytes:
    with open_journal(path, resume=False) as file:
        assert begin(file, RUN, STUDIES, 2) == 0
        append(file, rows)
    return path.read_bytes()


def resumed(path: Path, run: dict[str, Any] = RUN) -> int:
    with open_journal(path, resume=True) as file:
        return begin(file, run, STUDIES, 2)


def test_a_journal_goes_on(tmp_path: Path) -> None:
    assert resumed(tmp_path / "j") == 0
    with open_journal(tmp_path / "j", resume=True) as file:
        assert begin(file, RUN, STUDIES, 2) == 0
        append(file, ROWS[:2])
        assert list(read_rows(file)) == ROWS[:2]
    with open_journal(tmp_path / "j", resume=True) as file:
        assert begin(file, RUN, STUDIES, 2) == 2
        append(file, ROWS[2:])
        assert list(read_rows(file)) == ROWS
    assert resumed(tmp_path / "j") == 3


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(0, 600), noise=st.sampled_from([b"", b"\0\0", b"\0\n{\n"]))
def test_whatever_a_kill_cuts_short_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("j") / "j"
    whole = write(path)
    header = whole.index(b"\n") + 1
    kept = whole[:cut]
    path.write_bytes(kept + (noise if cut >= header else b""))
    with open_journal(path, resume=True) as file:
        done = begin(file, RUN, STUDIES, 2)
        rows = max(kept.count(b"\n") - 1, 0)
        assert done == (rows if rows == 3 else rows - rows % 2)  # a batch is done as a whole
        append(file, ROWS[done:])
    assert path.read_bytes() == whole


def test_an_unfinished_run_is_not_written_over(tmp_path: Path) -> None:
    before = write(tmp_path / "j")
    with pytest.raises(ConfigError, match="unfinished run; go on with --resume"):
        write(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == before


def test_another_run_is_named(tmp_path: Path) -> None:
    before = write(tmp_path / "j")
    for name in RUN:
        with pytest.raises(ConfigError, match=f"begun with another {name}"):
            resumed(tmp_path / "j", {**RUN, name: "other"})
    assert (tmp_path / "j").read_bytes() == before


def test_rows_of_something_else_are_damage(tmp_path: Path) -> None:
    renamed = {("imagos" if key == "images" else key): value for key, value in ROWS[0].items()}
    others = [ROWS[1:], [*ROWS, ROWS[2]], [*ROWS, {**ROWS[2], "study": None}], [renamed], [list(COLUMNS)], [3], [None]]
    for number, rows in enumerate(others):
        path = tmp_path / str(number)
        before = write(path, rows)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="is damaged; remove it to start anew"):
            resumed(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"{}\n", b"[1]\n", b"\x00\xff", json.dumps({"a": 1}).encode()])
def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no journal of a run"):
        resumed(path)
    assert path.read_bytes() == content


def test_two_processes_do_not_write_one_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    write(tmp_path / "j")
    with open_journal(tmp_path / "j", resume=True), pytest.raises(ConfigError, match="another process is writing it"):
        resumed(tmp_path / "j")
    assert resumed(tmp_path / "j") == 3
    monkeypatch.setitem(sys.modules, "fcntl", None)  # a system that cannot tell
    assert resumed(tmp_path / "j") == 3
