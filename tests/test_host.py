"""The process that imports the library stays as it was."""

import random
import subprocess
import sys

import numpy as np
import pytest

from xray_captioning.backend import keras, seeded

# A window of its own, as of pythonw, has no standard error. The program's random state, loggers,
# environment and descriptors are looked at around an import, a model and a step of training.
PROGRAM = """
import logging, os, random, sys
import numpy as np
import keras, tensorflow

def refuse(*args):
    raise AssertionError("a descriptor was redirected")

def state():
    loggers = [logging.getLogger(name) for name in (None, "tensorflow", "absl")]
    return (
        [logger.level for logger in loggers],
        dict(os.environ),
        random.getstate(),
        repr(np.random.get_state()),
        keras.utils.get_random_seed() if hasattr(keras.utils, "get_random_seed") else None,
    )

before, os.dup2, sys.stderr = state(), refuse, None
import xray_captioning as xc
from xray_captioning.backend import compiled, seeded
with seeded(3):
    layer = keras.layers.Dense(2)
    compiled(layer, layer)(np.ones((1, 2), "float32"))
xc.Captioner, xc.train, xc.train_encoder, xc.evaluate
same = [one == other for one, other in zip(before, state())]
print(same)
sys.exit(0 if all(same) else 1)
"""


def test_importing_leaves_the_process_alone():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_needs_no_standard_error(tmp_path):
    line = ["phantom", "--studies", "1", "--size", "64", "--out", str(tmp_path / "phantom")]
    program = "import os, sys; os.close(2); sys.stderr = None; from xray_captioning.cli import main"
    program += f"; sys.exit(main({line}))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["1", "synthetic"])


@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_decides_weights_and_nothing_else(seed):
    def weights():
        with seeded(seed):
            layer = keras.layers.Dense(4)
            layer.build((None, 3))
        return np.asarray(layer.kernel)

    first = weights()
    random.random()
    states = random.getstate(), repr(np.random.get_state())
    assert np.array_equal(weights(), first)
    assert (random.getstate(), repr(np.random.get_state())) == states
    keras.utils.set_random_seed(seed)  # the weights are those that Keras' own function gives
    layer = keras.layers.Dense(4)
    layer.build((None, 3))
    assert np.array_equal(layer.kernel, first)
