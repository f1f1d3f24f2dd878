"""What a run says while it trains, and who else is told."""

import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest

from xray_captioning import files
from xray_captioning.backend import describe_devices
from xray_captioning.training import loggers
from xray_captioning.training.loggers import Watcher, duration


class Data(SimpleNamespace):
    def __len__(self):
        return self.batches


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    for module in (files, loggers):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(files, "_spoke", 0.0)
    return clock


def run(clock, epochs, step, first=None, capsys=None):
    """Train: batches of `step` seconds, the first one of `first`; return (second, line) pairs."""
    watcher = Watcher(Data(batches=40, studies=640), Data(batches=10), "bfloat16")
    watcher.set_params({"epochs": epochs})
    watcher.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.001)))
    watcher.on_train_begin()
    lines, logs = [], {}
    for epoch in range(epochs):
        logs = {"loss": 2.0, "val_loss": 1.5}
        watcher.on_epoch_begin(epoch)
        for batch in range(40):
            clock.now += first if first and not epoch and not batch else step
            watcher.on_train_batch_end(batch, {"loss": 2.0})
            lines += [(clock.now, line) for line in capsys.readouterr().err.splitlines()]
        for batch in range(10):
            clock.now += step / 3
            watcher.on_test_batch_end(batch)
            lines += [(clock.now, line) for line in capsys.readouterr().err.splitlines()]
        watcher.on_epoch_end(epoch, logs)
        lines += [(clock.now, line) for line in capsys.readouterr().err.splitlines()]
    return lines, logs


def test_a_run_of_an_hour_has_a_line_at_least_every_minute(clock, capsys):
    lines, _ = run(clock, 6, 15.0, capsys=capsys)
    assert clock.now > 3600
    gaps = [after - before for (before, _), (after, _) in pairwise(lines)]
    assert max(gaps) <= 60 + 15
    assert sum(line.startswith("epoch ") for _, line in lines) >= 60


def test_the_lines_of_a_run(clock, capsys):
    lines, logs = run(clock, 3, 0.1, first=5.0, capsys=capsys)
    told = [line for _, line in lines]
    assert told[0] == f"training on {describe_devices()}, in bfloat16"
    assert told[1] == "about 13 s for 3 epochs, by the first 10 batches"  # 3 x (40 + 10 / 3) x .1
    assert told[2] == ("epoch 1/3: loss 2, val_loss 1.5, learning rate 0.001, 9.23 s, 71.9 studies/s, 18 s left")
    assert told[4].endswith("4.33 s, 160 studies/s, the last")
    assert len(told) == 5
    assert logs["learning_rate"] == 0.001
    assert logs["seconds"] == pytest.approx(4.333)


def test_a_terminal_has_a_bar_in_batches(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lines, _ = run(clock, 1, 0.1, capsys=capsys)
    assert "epoch 1/1:" in "".join(line for _, line in lines)
    assert "/50 [" in "".join(line for _, line in lines)


def test_durations_are_read_at_a_glance():
    told = [duration(seconds) for seconds in (0.512, 12.3, 99, 110, 3000, 7505, 36000)]
    assert told == ["0.512 s", "12 s", "99 s", "2 min", "50 min", "2 h 05 min", "10 h 00 min"]
