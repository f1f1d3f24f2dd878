"""Batches on Ray's workers: the order, what workers raise, and workers that die."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xray_captioning.batch.workers import ray_workers
from xray_captioning.cli import main
from xray_captioning.errors import ConfigError, DataError

pytest.importorskip("ray")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


def squares(folder):
    """Return what squares numbers; 13 ends the process, 7 does so once, and text is an error."""

    def answer(batch):
        for number in batch:
            if isinstance(number, str):
                raise DataError(f"{number}: is no number")
            once = Path(folder, "once")
            if number == 13 or (number == 7 and not once.exists()):
                if number == 7:
                    once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [number**2 for number in batch]

    return answer


@pytest.fixture(scope="module")
def spread():
    with pytest.MonkeyPatch.context() as patch:
        for name, threads in ONE_THREAD.items():
            patch.setenv(name, threads)
        with ray_workers(2) as workers:
            yield workers


def test_results_come_in_the_order_of_the_batches(spread, tmp_path):
    batches = [list(range(start, start + 3)) for start in range(20, 60, 3)]
    found = list(spread(partial(squares, tmp_path), batches, lost=lambda _: None))
    assert found == [[number**2 for number in batch] for batch in batches]


def test_only_a_few_batches_are_ahead(spread, tmp_path):
    asked = []
    batches = ([asked.append(number) or number] for number in range(100, 150))
    assert next(spread(partial(squares, tmp_path), batches, lost=lambda _: None)) == [10_000]
    assert len(asked) <= 4


def test_what_kills_a_worker_twice_is_lost_alone(spread, tmp_path):
    batches = [[1, 2], [3, 13, 4, 5], [7, 8]]
    found = list(spread(partial(squares, tmp_path), batches, lost=lambda number: f"lost {number}"))
    assert found == [[1, 4], [9, "lost 13", 16, 25], [49, 64]]


def test_an_error_of_a_worker_is_raised_here(spread, tmp_path):
    with pytest.raises(DataError, match=r"^x: is no number$"):
        list(spread(partial(squares, tmp_path), [[1], ["x"]], lost=lambda _: None))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_an_address_without_ray_is_one_error(address):
    with (
        pytest.raises(ConfigError, match=rf"--address {address}: no Ray there .* give HOST:PORT"),
        ray_workers(1, address),
    ):
        pass


@pytest.mark.parametrize("address", [None, "127.0.0.1:6379"])
def test_the_threads_that_the_environment_names_go_before_shared_ones(monkeypatch, address):
    asked = {}

    def init(runtime_env=None, **_):
        asked.update(runtime_env["env_vars"] if address else {name: os.environ[name] for name in ONE_THREAD})
        raise ValueError("that is enough")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: SimpleNamespace(close=int))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "2")
    with pytest.raises(ConfigError, match="that is enough"), ray_workers(2, address):
        pass
    asked.pop("TF_ENABLE_ONEDNN_OPTS", None)  # which a cluster is told, too
    shared = "1" if address else "3"  # of a cluster each worker has one processor
    assert asked == {"OMP_NUM_THREADS": "4", "TF_NUM_INTRAOP_THREADS": shared, "TF_NUM_INTEROP_THREADS": "2"}
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ


def test_options_of_ray_need_ray(capsys, phantoms):
    assert main(["prepare", str(phantoms), "--engine", "ray"]) == 2
    assert "reads images: give --read-images" in capsys.readouterr().err
    for options, said in [(["--workers", "2"], "of --engine ray"), (["--engine", "ray"], "give --out")]:
        assert main(["caption", "--data", str(phantoms), *options]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_prepare_reads_images_here_and_there_alike(spread, phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("xray_captioning.batch.workers.ray_workers", lambda *_: nullcontext(spread))
    monkeypatch.setattr("xray_captioning.cli.data.READ", 5)
    data = shutil.copytree(phantoms, tmp_path / "data")
    bad = min(data.glob("images/*/900003_*"))
    bad.write_text("no image")
    for name, engine in (("here", []), ("ray", ["--engine", "ray"])):
        assert main(["prepare", str(data), "--read-images", "--out", str(tmp_path / name), *engine]) == 0
        assert "images that cannot be read     1\n" in capsys.readouterr().out
        header, row = (tmp_path / name / "unreadable.csv").read_text().splitlines()
        assert header == "image,error"
        assert row.startswith(f'{bad},"{bad}: is none of PNG')
    assert main(["prepare", str(data)]) == 0
    assert "cannot be read" not in capsys.readouterr().out


def test_an_export_writes_the_same_captions_with_and_without(phantoms, tmp_path):
    # In a process of its own, because Ray has started here with other workers.
    line = [sys.executable, "-m", "xray_captioning", "caption", "--data", phantoms, "--runtime", "onnx"]
    for name, engine in [("here.csv", []), ("ray.csv", ["--engine", "ray", "--workers", "2"])]:
        subprocess.run([*line, "--out", tmp_path / name, *engine], check=True, capture_output=True)
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "ray.csv").read_bytes()


def test_commands_write_the_same_with_and_without(spread, phantoms, tiny_run, tmp_path, monkeypatch):
    # In a process of its own with the threads of a worker, because the last digits of a feature depend on their number.
    shared = ["--data", phantoms, "--bundle", tiny_run, "--out"]
    encode = ["encode", "--data", phantoms, "--encoder", "phantom_cnn", "--weights", tiny_run, "--out"]

    def lines(out, *engine):
        out.mkdir()
        found = [
            ["caption", *shared, out / "captions.csv"],
            [*encode, out / "features.npz"],
            ["evaluate", *shared, out / "results", "--cache", out / "cache"],
        ]
        return [[str(word) for word in [*line, *engine]] for line in found]

    code = "import sys; from xray_captioning.cli import main; sys.exit(any(main(l) for l in eval(sys.argv[1])))"
    here = [sys.executable, "-c", code, repr(lines(tmp_path / "here"))]
    subprocess.run(here, check=True, capture_output=True, env=os.environ | ONE_THREAD)
    monkeypatch.setattr("xray_captioning.batch.workers.ray_workers", lambda *_: nullcontext(spread))
    assert not any(map(main, lines(tmp_path / "ray", "--engine", "ray")))
    for file in ("captions.csv", "results/metrics.json"):  # whose numbers have the digits that hold
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "ray" / file).read_bytes()
    here, there = (np.load(tmp_path / name / "features.npz") for name in ("here", "ray"))
    assert here.files == there.files
    for name in here.files:
        if here[name].dtype.kind == "f":
            np.testing.assert_allclose(here[name], there[name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(here[name], there[name])
