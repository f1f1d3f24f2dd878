"""What decides which epoch is best is the score that evaluation prints, the higher the better."""

from types import SimpleNamespace

import pytest

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.data.targets import reference_texts, study_images
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.scores import score
from xray_captioning.training.caption_score import CaptionSamples, CaptionScore, monitored_studies
from xray_captioning.training.run_state import RunState

NAMES = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "clinical_f1")


def test_the_score_is_that_of_greedy_captions_of_the_validation_studies(phantoms, tiny_run):
    captioner, studies = Captioner.load(tiny_run), read_studies(phantoms)
    studies = studies[studies["study_id"].isin(Split.from_json(tiny_run / "split.json").val)]
    images = study_images(studies, captioner.config)
    features = captioner.features(images)
    captioner.config = captioner.config.replace({"training.monitor": "val_BLEU-1"})
    findings = ["Cardiomegaly", "Pleural Effusion"]
    watched = CaptionScore(captioner, studies, lambda numbers, rng: [x[numbers] for x in features], findings)
    watched.set_model(SimpleNamespace(captions=captioner.model, features=lambda given: given))
    watched.set_params({"epochs": 1})
    references = reference_texts(studies, captioner.config)
    texts = [" ".join(c.words) for c in captioner.caption_features(features, beam_size=1)]
    expected = {**score(references, texts), **clinical_scores(references, texts, findings)}
    logs = {}
    for name in NAMES:
        watched.monitor = f"val_{name}"
        watched.on_epoch_end(0, logs)
    assert logs == {f"val_{name}": pytest.approx(expected[name], nan_ok=True) for name in NAMES}


@pytest.mark.parametrize(("monitor", "best"), [("val_loss", 1), ("val_CIDEr", 2), ("val_BLEU-4", 0)])
def test_the_best_epoch_has_the_lowest_loss_or_the_highest_score(tmp_path, monitor, best):
    state = RunState(tmp_path, None, monitor, 2)
    assert state.best == -1
    losses, rising, equal = (3.0, 1.0, 2.0), (0.1, 0.2, 0.3), (0.5, 0.5, 0.5)
    for epoch, row in enumerate(zip(losses, rising, equal)):
        names = ("val_loss", "val_CIDEr", "val_BLEU-4")
        state.history.append({"epoch": epoch + 1, **dict(zip(names, row))})
    assert state.best == best
    assert state.finished == (best == 0)


@pytest.mark.parametrize("broken", ["loss", "val_CIDEr"])
def test_a_number_that_is_none_ends_the_run(tmp_path, broken):
    logs = {"loss": 1.0, "val_CIDEr": 0.5, broken: float("nan")}
    with pytest.raises(BundleError, match=rf"{broken} became nan in epoch 1; lower"):
        RunState(tmp_path, None, "val_CIDEr", 2).on_epoch_end(0, logs)


def monitoring(name, impressions, phantoms):
    config = Config().replace({"training.monitor": name})
    studies = read_studies(phantoms)[: len(impressions)].assign(impression=impressions)
    return CaptionScore(SimpleNamespace(config=config), studies, None, ["Pleural Effusion"])


def test_what_cannot_be_scored_is_refused_before_training(phantoms):
    with pytest.raises(ConfigError, match="val_BLEU-4, but the validation part of the split is em"):
        monitoring("val_BLEU-4", [], phantoms)
    with pytest.raises(ConfigError, match="val_clinical_f1, but no validation report names a f"):
        monitoring("val_clinical_f1", ["normal .", "emphysema ."], phantoms)
    monitoring("val_clinical_f1", ["normal .", "small left effusion ."], phantoms)


def test_an_unknown_monitor_is_one_clear_error():
    with pytest.raises(ConfigError, match=r"training\.monitor: 'val_METEOR' .*choose one of val_l"):
        Config().replace({"training.monitor": "val_METEOR"})


def test_many_validation_studies_are_sampled_the_same_in_each_epoch(phantoms):
    studies = read_studies(phantoms)
    assert monitored_studies(studies, 0) is studies
    first, again, other = (list(monitored_studies(studies, s, 5)["study_id"]) for s in (0, 0, 1))
    assert len(set(first)) == 5
    assert first == again != other


def test_samples_of_each_epoch_can_be_read_and_a_stopped_one_is_written_anew(phantoms, tmp_path):
    studies = read_studies(phantoms)[:2].assign(impression=["normal .", "effusion ."])
    samples = CaptionSamples(SimpleNamespace(config=Config()), studies, None, tmp_path)
    for epoch, said in ((0, "first"), (1, "stopped"), (1, "second")):
        samples.texts = lambda said=said: [said, "a | b"]
        samples.on_epoch_end(epoch)
    text = (tmp_path / "samples.md").read_text("utf-8")
    assert text.count("## Epoch 1\n") == text.count("## Epoch 2\n") == 1
    assert text.index("first") < text.index("## Epoch 2") < text.index("second")
    assert "stopped" not in text
    assert "| effusion . | a \\| b " in text
