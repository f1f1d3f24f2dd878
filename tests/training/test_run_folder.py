"""What is no configuration, no studies, no encoder is refused in one line, and leaves nothing."""

import pytest

from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import split_studies
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.training.captions import train
from xray_captioning.training.encoder import train_encoder
from xray_captioning.training.run_folder import RunFolder


@pytest.mark.parametrize("fit", [train, train_encoder])
def test_what_python_callers_give_by_mistake_is_named(fit, phantoms, tiny_config, tmp_path):
    studies, out = read_studies(phantoms), tmp_path / "run"
    for config in ({}, "phantom_attention", None):
        kind = type(config).__name__
        with pytest.raises(ConfigError, match=f"expected a configuration, got {kind}; give one of"):
            fit(studies, config, out)
    for given in ({}, None, ["a.png"]):
        kind = type(given).__name__
        with pytest.raises(DataError, match=f"expected studies, got {kind} without study_id, .*; give the table"):
            fit(given, tiny_config, out)
    with pytest.raises(ConfigError, match="expected the folder or the name of a bundle, got int"):
        train(studies, tiny_config, out, 3)
    assert not out.exists()


def test_a_run_goes_on_with_the_texts_that_it_was_told(phantoms, tmp_path):
    studies, split = read_studies(phantoms), split_studies(read_studies(phantoms))
    others = studies.assign(indication="Chest pain.")
    for number, read in enumerate(([], ["indication"])):
        config = Config().replace({"text.context": read})
        RunFolder(tmp_path / str(number), config, False).claim(studies, split, "weights")
        RunFolder(tmp_path / str(number), config, True).claim(studies, split, "weights")
    RunFolder(tmp_path / "0", Config(), True).claim(others, split, "weights")  # which it does not read
    with pytest.raises(ConfigError, match="was started with other context; resume with the same data"):
        RunFolder(tmp_path / "1", config, True).claim(others, split, "weights")


def test_an_encoder_and_its_decoder_do_not_share_a_folder(phantoms, tmp_path):
    studies, split = read_studies(phantoms), split_studies(read_studies(phantoms))
    commands = {"encoder_training": "train-encoder", "training": "train"}
    for group, other in (commands, reversed(commands)):
        RunFolder(tmp_path / group, Config(), False, group).claim(studies, split, "weights")
        with pytest.raises(ConfigError, match=f"holds a run of `{commands[group]}`; choose another --out"):
            RunFolder(tmp_path / group, Config(), True, other)
