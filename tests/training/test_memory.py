"""A set that does not fit into memory is trained on."""

import csv
import subprocess
import sys

import numpy as np
import pytest

STUDIES, SHAPE = 2700, (2, 14, 14, 2048)  # 4.0 GiB in float16: a file of zeros, which takes no room on the disk
LIMIT = 7 << 29  # bytes of data that the process may have, TensorFlow's two included
TRAIN = """
import resource, sys
from pathlib import Path
from xray_captioning.config import load_preset
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.training.captions import train

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
small = {"model.head": 8, "model.units": 8, "model.embedding": 8, "model.attention": 8, "text.maximum_length": 8}
config = load_preset("phantom_attention").replace({**small, "training.epochs": 1, "training.batch_size": 32})
studies = read_studies(folder / "captions.csv", need_images=False)
train(studies, config, folder / "run", features=folder / "features.npy", measured=False)
"""


@pytest.mark.slow
def test_features_larger_than_memory_are_trained_on(tmp_path):
    ids = [f"s{number}" for number in range(STUDIES)]
    features = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float16, (STUDIES, *SHAPE))
    assert features.nbytes > LIMIT
    (tmp_path / "features.txt").write_text("\n".join(ids))
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "caption"])
        writer.writerows([name, f"no effusion in number {number % 7} ."] for number, name in enumerate(ids))
    line = [sys.executable, "-c", TRAIN, str(tmp_path), str(LIMIT)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "manifest.json").is_file()
