"""Several processes at one folder: each finds what is right, whoever was first, and none waits for ever."""

import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.injecting import HANG
from tests.faults.operations import OPERATIONS, new_bundle, some_images
from xray_captioning.bundles.bundle import read_bundle, rewrite_bundle
from xray_captioning.errors import ConfigError, XrayCaptioningError
from xray_captioning.files import atomic_write, read_json

AT_ONCE = 4


def at_once(*works: Callable[[], object]) -> list[Any]:
    """Run each in a fork, at the same time; return what they returned, or the error that they raised."""
    pipes = []
    for work in works:
        read, write = os.pipe()
        if not os.fork():
            signal.alarm(HANG)
            try:
                found: object = work()
            except BaseException as error:
                found = error
            with os.fdopen(write, "wb") as file:
                pickle.dump(found, file)
            os._exit(0)
        os.close(write)
        pipes.append(read)
    found = []
    for read in pipes:
        with os.fdopen(read, "rb") as file:
            found.append(pickle.loads(file.read()))  # an empty answer, of a fork that hung, is an error here
    for _ in works:
        os.wait()
    return found


@pytest.mark.parametrize("name", ["cache", "archive", "text"])
def test_the_same_work_at_once_is_done_by_each(name, tmp_path):
    operation = OPERATIONS[name]
    operation.before(tmp_path)
    for found in at_once(*[lambda: operation.work(tmp_path) and None] * AT_ONCE):
        assert found is None
    assert operation.found(tmp_path)


@pytest.mark.parametrize("name", ["captions.jsonl", "features.npz", "features.zarr", "phantoms"])
def test_of_several_that_write_one_output_one_does_and_the_others_say_so(name, tmp_path):
    operation = OPERATIONS[name]
    some_images(tmp_path)
    found = at_once(*[lambda: operation.work(tmp_path)] * AT_ONCE)
    errors = [one for one in found if isinstance(one, BaseException)]
    assert all(isinstance(error, (XrayCaptioningError, OSError)) and "\n" not in str(error) for error in errors), errors
    assert len(errors) < AT_ONCE
    alone = tmp_path / "alone"
    some_images(alone)
    operation.work(alone)
    whole, other = str(operation.found(tmp_path)), str(operation.found(alone))
    assert whole == other.replace(str(alone), str(tmp_path))


def test_a_journal_belongs_to_one_process(tmp_path):
    from xray_captioning.batch.caption_table import open_journal

    with open_journal(tmp_path / "out.part", False):
        [found] = at_once(lambda: open_journal(tmp_path / "out.part", True).__enter__())
    assert isinstance(found, ConfigError)
    assert "another process is writing it" in str(found)


def test_a_bundle_is_one_or_the_other_while_it_is_replaced(tmp_path):
    new_bundle(tmp_path)
    folder = tmp_path / "bundle"

    def replace() -> None:
        for number in range(40):
            text = f'{{"number": {number}}}'
            rewrite_bundle(folder, lambda aside, text=text: atomic_write(aside / "calibration.json", text))

    def read() -> list[str]:
        errors = []
        for _ in range(200):
            try:
                read_bundle(folder, "captioner")
            except XrayCaptioningError as error:
                errors.append(str(error))
        return errors

    done, *errors = at_once(replace, read, read)
    assert done is None
    # Between two files of a bundle that is moved a reader is told so; it is never given a mixture.
    assert all("altered" in error or "missing" in error for found in errors for error in found), errors
    assert read_json(folder / "calibration.json", "") == {"number": 39}
    read_bundle(folder, "captioner")
