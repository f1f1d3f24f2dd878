"""Fixtures shared by all tests."""

import contextlib
import gc
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from xray_captioning.config import Config, load_preset
from xray_captioning.files import load_as_program

# XLA compiles what it compiles for users, but does not optimise the machine code, which would
# take longer than a test runs it. TensorFlow and JAX read this when they are loaded.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
load_as_program()  # tests read what commands write to standard error; whichever loads TensorFlow first


TINY = load_preset("phantom_attention").replace(
    {
        "name": "tiny",
        "fractions": [0.66, 0.157, 0.183],  # 12, 6 and 6 of the phantoms
        "image.size": 64,
        "text.maximum_length": 16,
        "model.head": 16,
        "model.units": 16,
        "model.embedding": 12,
        "model.attention": 8,
        "encoder_training.epochs": 2,
        "encoder_training.batch_size": 8,
        "training.epochs": 2,
        "training.batch_size": 8,
    }
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files that fork, since a process that has run others takes longer to copy; then the longest."""
    many = Counter(item.path for item in items)
    items.sort(key=lambda item: ("faults" not in item.path.parts, -many[item.path], item.path))


def pytest_collection_finish() -> None:
    """Leave the million objects that importing has made out of every garbage collection."""
    gc.collect()
    gc.freeze()


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files that are never part of the project; tests skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the real files (../shared/data) are not on this machine")
    return SHARED


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first of pytest-xdist's workers makes and the others share."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made" / name
    folder.parent.mkdir(exist_ok=True)
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Run as Python what TensorFlow would compile: sooner done, where it is run a few times."""
    if importlib.util.find_spec("keras") is None:  # exported graphs are all that runs
        yield
        return
    from xray_captioning.backend import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """Compile nothing in this module, whose tests are not about what is compiled."""
    with uncompiled():
        yield


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 24 small synthetic studies in the Kaggle layout."""
    from xray_captioning.phantom.dataset import write_phantoms

    return made_once(tmp_path_factory, "phantom", lambda out: write_phantoms(out, studies=24, seed=1, size=96))


@pytest.fixture(scope="session")
def fresh_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 150 synthetic studies that the shipped bundle has not seen."""
    from xray_captioning.phantom.dataset import write_phantoms

    return made_once(tmp_path_factory, "fresh", lambda out: write_phantoms(out, 150, seed=11))


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Return a recipe that trains in seconds and learns nothing to speak of."""
    return TINY


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of pixels and features that the tiny runs share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_encoder_run(
    tmp_path_factory: pytest.TempPathFactory, phantoms: Path, tiny_config: Config, tiny_cache: Path
) -> Path:
    """Run folder, and bundle, of an encoder trained on the phantoms for two epochs."""
    from xray_captioning.data.sources.reading import read_studies
    from xray_captioning.training.encoder import train_encoder

    def make(out: Path) -> None:
        with uncompiled():
            train_encoder(read_studies(phantoms), tiny_config, out, "random", cache=tiny_cache)

    return made_once(tmp_path_factory, "encoder", make)


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory,
    phantoms: Path,
    tiny_config: Config,
    tiny_cache: Path,
    tiny_encoder_run: Path,
) -> Path:
    """Run folder, and bundle, of a captioner trained on that encoder for two epochs.

    Tests that change it work on a copy.
    """
    from xray_captioning.data.sources.reading import read_studies
    from xray_captioning.encoders import Encoder
    from xray_captioning.training.captions import train

    def make(out: Path) -> None:
        encoder, studies = Encoder.load(tiny_encoder_run), read_studies(phantoms)
        with uncompiled():
            train(studies, tiny_config, out, encoder, cache=tiny_cache, measured=False)

    return made_once(tmp_path_factory, "captioner", make)
