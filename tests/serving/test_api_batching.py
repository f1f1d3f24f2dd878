"""Batches of a toy function: who goes with whom, who is turned away, who gives up."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from xray_captioning.serving.engine import Batcher, BusyError, Capacity

LONG = 60.0


class Recorder:
    def __init__(self):
        self.batches = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, key, items):
        self.batches.append((key, list(items)))
        self.begun.set()
        assert self.go.wait(LONG)
        if "bad" in items:
            raise ValueError("bad")
        return [(key, item) for item in items]


@pytest.fixture
def made():
    batchers, recorder = [], Recorder()

    def make(most=4, patience=0.0):
        batchers.append(Batcher(recorder, most, patience))
        return batchers[-1]

    yield make, recorder
    recorder.go.set()
    for batcher in batchers:
        batcher.close()


def soon():
    return time.monotonic() + LONG


def held(batcher, recorder, pool, calls):
    """Begin one item, let others queue behind it, and return their futures."""
    recorder.go.clear()
    first = pool.submit(batcher.compute, "k", ["first"], soon())
    assert recorder.begun.wait(LONG)
    futures = []
    for number, (key, items) in enumerate(calls, 1):
        futures.append(pool.submit(batcher.compute, key, items, soon()))
        while len(batcher._jobs) < sum(len(items) for _, items in calls[:number]):
            time.sleep(0.001)
    return first, futures


def test_what_waits_goes_together_up_to_the_limit(made):
    make, recorder = made
    with ThreadPoolExecutor(8) as pool:
        batcher = make(most=4)
        first, others = held(batcher, recorder, pool, [("k", [n]) for n in range(6)])
        recorder.go.set()
        assert first.result()[0].value == ("k", "first")
        assert [future.result()[0].value[1] for future in others] == list(range(6))
    assert [items for _, items in recorder.batches] == [["first"], [0, 1, 2, 3], [4, 5]]


def test_keys_are_apart_and_the_oldest_is_next(made):
    make, recorder = made
    calls = [("b", [1]), ("a", [2]), ("b", [3, 4]), ("a", [5])]
    with ThreadPoolExecutor(8) as pool:
        _, others = held(make(), recorder, pool, calls)
        recorder.go.set()
        assert [done.value for done in others[2].result()] == [("b", 3), ("b", 4)]
    assert recorder.batches[1:] == [("b", [1, 3, 4]), ("a", [2, 5])]


def test_a_batch_waits_for_others_but_not_for_ever(made):
    make, recorder = made
    batcher = make(most=2, patience=LONG)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: batcher.compute("k", [n], soon()), range(2)))
    assert len(recorder.batches) == 1
    make(most=2, patience=0.001).compute("k", [1], soon())
    assert len(recorder.batches[-1][1]) == 1


def test_a_failure_reaches_its_own_batch_only(made):
    make, recorder = made
    with ThreadPoolExecutor(8) as pool:
        _, (bad, good) = held(make(), recorder, pool, [("a", ["bad"]), ("b", ["good"])])
        recorder.go.set()
        with pytest.raises(ValueError, match="bad"):
            bad.result()
        assert good.result()[0].value == ("b", "good")


def test_what_is_not_begun_in_time_is_never_done(made):
    make, recorder = made
    batcher = make()
    with ThreadPoolExecutor(4) as pool:
        first, _ = held(batcher, recorder, pool, [])
        with pytest.raises(BusyError):
            batcher.compute("k", ["late", "later"], time.monotonic() + 0.01)
        assert not batcher._jobs
        recorder.go.set()
        first.result()
    assert batcher.compute("k", ["next"], soon())[0].value == ("k", "next")
    assert [items for _, items in recorder.batches] == [["first"], ["next"]]


def test_closing_finishes_what_waits_and_takes_no_more(made):
    make, recorder = made
    with ThreadPoolExecutor(8) as pool:
        batcher = make()
        first, (other,) = held(batcher, recorder, pool, [("k", ["waits"])])
        closing = pool.submit(batcher.close)
        recorder.go.set()
        closing.result()
        assert first.result()
        assert other.result()[0].value == ("k", "waits")
    with pytest.raises(BusyError):
        batcher.compute("k", ["more"], soon())


def test_capacity_is_given_back():
    capacity = Capacity(2)
    with capacity.taken(2), pytest.raises(BusyError), capacity.taken(1):
        pass
    with pytest.raises(ZeroDivisionError), capacity.taken(1):
        _ = 1 / 0
    with capacity.taken(2):
        assert capacity.used == 2
    assert capacity.used == 0
