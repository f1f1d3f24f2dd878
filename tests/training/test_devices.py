"""Several devices train to the losses of one, and bfloat16 to a bundle of float32."""

import csv
import ctypes
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from xray_captioning.backend import FREED_MEMORY, KEPT_MEMORY, kept_memory, keras, training_scope
from xray_captioning.data.datasets import BatchDataset, EvenDataset
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import weights_digest
from xray_captioning.training.encoder import train_encoder

BACKEND = keras.backend.backend()
PROGRAM = """
import json, sys
from pathlib import Path
from xray_captioning.config import Config
from xray_captioning.files import load_as_program
load_as_program()
if sys.argv[1] == "tensorflow":
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
import xray_captioning as xc
from xray_captioning.encoders import encoder
encoder.lean = lambda network: None  # its steps are rounded otherwise, and several devices have none
studies, out, config = sys.argv[2], Path(sys.argv[3]), Config.from_dict(json.loads(sys.argv[4]))
for devices in ("one", "all"):
    run, how = out / devices, {"cache": out / "cache", "devices": devices}
    xc.train_encoder(studies, config, run / "encoder", "random", **how)
    xc.train(studies, config, run / "captions", out / "one/encoder", measured=False, **how)
"""


@pytest.mark.slow
@pytest.mark.skipif(BACKEND not in ("tensorflow", "jax"), reason="one device here")
def test_two_devices_give_the_losses_of_one(phantoms, tiny_config, tmp_path):
    """Bounds on the gradient, batches that two cannot share, and studies' own losses included."""
    config = tiny_config.replace(
        {
            "image.augment": False,
            "model.dropout": 0.0,
            "training.clip_norm": 0.2,
            "training.batch_size": 5,
            "training.finding_weight": 0.5,
            "training.encoder_learning_rate": 1e-3,
            "encoder_training.clip_norm": 0.2,
        }
    )
    line = [sys.executable, "-c", PROGRAM, BACKEND, phantoms, tmp_path]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    given = {**os.environ, "XLA_FLAGS": flags} if BACKEND == "jax" else os.environ
    done = subprocess.run([*line, json.dumps(config.to_dict())], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("encoder", "captions"):
        one, two = (list(csv.DictReader((tmp_path / devices / name / "log.csv").open())) for devices in ("one", "all"))
        for column in ("loss", "val_loss"):
            expected = [float(row[column]) for row in one]
            assert [float(row[column]) for row in two] == pytest.approx(expected, rel=1e-5), name


def test_a_batch_that_devices_cannot_share_gets_copies_without_weight():
    def make(numbers, rng, index):
        return {"x": numbers}, numbers * 10, np.ones((len(numbers), 2), "float32")

    inputs, targets, weights = EvenDataset(BatchDataset(make, 7, 4), 4)[1]
    assert inputs["x"].tolist() == [4, 5, 6, 4]
    assert targets.tolist() == [40, 50, 60, 40]
    assert weights.tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]
    assert inputs["share"].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert inputs["count"].tolist() == [6, 6, 6, 6]
    plain = EvenDataset(BatchDataset(lambda n, rng, i: ({"x": n}, n), 2, 4), 4)[0]
    assert plain[2].tolist() == [1, 1, 0, 0]


@pytest.mark.usefixtures("eagerly")
def test_an_encoder_trained_in_bfloat16_is_one_of_float32(phantoms, tiny_config, tiny_cache, tmp_path, capsys):
    config = tiny_config.replace({"encoder_training.precision": "bfloat16", "encoder_training.epochs": 1})
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.extend({layer.compute_dtype for layer in self.model.encoder.backbone.layers})

        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = 3.0

    given = {"cache": tiny_cache, "callbacks": [Seen()]}
    encoder, _ = train_encoder(read_studies(phantoms), config, tmp_path / "run", "random", **given)
    assert "bfloat16" in seen
    assert {layer.compute_dtype for layer in encoder.backbone.layers} == {"float32"}
    assert weights_digest(Encoder.load(tmp_path / "run")) == weights_digest(encoder)
    assert ", in bfloat16\n" in capsys.readouterr().err
    row = next(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert row["mine"] == "3.0"  # what callbacks add is logged


def test_the_precision_of_others_is_put_back():
    before = keras.config.dtype_policy().name
    with training_scope("one", "bfloat16") as anew:
        assert anew
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == before


@pytest.mark.skipif(not hasattr(ctypes.pythonapi, "mallopt"), reason="memory is kept where glibc allocates it")
def test_what_a_step_frees_is_there_for_the_next_one():
    resource = pytest.importorskip("resource")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            arrays = [np.ones(3_000_000) for _ in range(4)]
            del arrays
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    without = faults()
    with kept_memory():
        faults()
        kept = faults()
    assert kept < without / 10
    assert faults() > kept


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "65536", False),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536", False),
        ("MALLOC_ARENA_MAX", "2", True),
    ],
)
def test_memory_that_somebody_tunes_is_left_to_them(monkeypatch, name, value, kept):
    told: dict[int | str, int] = {}
    libc = SimpleNamespace(mallopt=lambda *pair: told.update([pair]), malloc_trim=lambda _: told.update(gone=1))
    monkeypatch.setattr(ctypes, "pythonapi", libc)
    monkeypatch.setenv(name, value)

    def failing() -> None:
        assert told == (KEPT_MEMORY if kept else {})
        raise ValueError("of a step")

    with pytest.raises(ValueError, match="of a step"), kept_memory():
        failing()
    assert told == (KEPT_MEMORY | FREED_MEMORY | {"gone": 1} if kept else {})  # whatever goes wrong
