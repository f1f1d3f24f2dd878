"""A log has a line a minute, a terminal a bar."""

import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest

from xray_captioning import files as module
from xray_captioning.cli import main
from xray_captioning.files import progress, say


@pytest.fixture
def clock(monkeypatch):
    """Return what keeps the time, in seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(module, "_spoke", clock.now)
    return clock


def test_an_hour_without_a_terminal_has_a_line_a_minute(clock, capsys):
    """Whatever works: many short loops, each of less than a minute, and long ones."""
    times = [clock.now]
    for total, seconds in [(7, 5)] * 30 + [(100, 20), (1200, 0.5)]:
        with progress(total=total, desc="captions", unit="batch") as bar:
            for _ in range(total):
                clock.now += seconds
                bar.update()
                times += [clock.now] * capsys.readouterr().err.count("\n")
    assert clock.now - 1000 > 3600
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= 80  # of a step of 20 seconds nothing is heard within
    assert len(times) <= 1 + (clock.now - 1000) / 60


def test_a_bar_says_nothing_at_once(clock, capsys):
    """Where nobody spoke for a minute, as in a notebook that was read."""
    clock.now += 100
    with progress(total=0, desc="encode images", unit="image"):
        pass
    assert not capsys.readouterr().err


def test_a_line_says_how_far_it_is_and_short_work_says_nothing(clock, capsys):
    with progress(total=50, desc="encode", unit="image") as bar:
        bar.update(5)
        assert not capsys.readouterr().err
        clock.now += 60
        bar.update(20)
        line = capsys.readouterr().err
    assert line.startswith("encode:  50%, 25/50 [")
    assert line.count("\n") == 1
    assert "\r" not in line
    assert not capsys.readouterr().err


def test_what_is_said_puts_the_next_line_off(clock, capsys):
    with progress(total=3) as bar:
        clock.now += 59
        say("epoch 1")
        clock.now += 59
        bar.update()
    assert capsys.readouterr().err == "epoch 1\n"


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(range(3), desc="captions")) == [0, 1, 2]
    assert "captions: 100%|" in capsys.readouterr().err


def test_a_process_without_a_console_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    say("epoch 1")
    assert list(progress(range(3))) == [0, 1, 2]


def test_a_command_counts_the_minutes_from_its_start(clock, capsys):
    clock.now += 1000  # of a process that runs several
    assert main(["presets"]) == 0
    assert list(progress(range(3))) == [0, 1, 2]
    assert not capsys.readouterr().err
