import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, kstest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict

from xray_captioning.bundles.bundle import bundle_files
from xray_captioning.captioner.calibration import Calibration
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.config import DecodingConfig
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.training.calibration import (
    Outcomes,
    Sentences,
    _line,
    calibrate,
    calibration_scores,
    cross_fitted,
    drawn_studies,
    evaluate_calibration,
    fit_confidence,
    fit_familiar,
    usual_radius,
)

pytestmark = pytest.mark.usefixtures("eagerly")

GREEDY, BEAM, OTHER = (DecodingConfig(beam_size=n) for n in (1, 3, 5))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_known_line_is_found_again():
    rng = np.random.default_rng(0)
    found = -rng.gamma(2, 0.2, 20000)
    right = rng.random(20000) < sigmoid(5 * found + 3)
    slope, intercept = fit_confidence(found, right)
    assert (slope, intercept) == pytest.approx((5, 3), abs=0.2)


@pytest.mark.parametrize("outcome", [True, False])
def test_a_fit_without_a_mistake_is_not_sure_of_itself(outcome):
    found = np.linspace(-1, 0, 50)
    slope, intercept = fit_confidence(found, np.full(50, outcome))
    stated = sigmoid(slope * found + intercept)
    expected = 51 / 52 if outcome else 1 / 52
    np.testing.assert_allclose(stated, expected, atol=0.01)


def test_nothing_to_fit():
    with pytest.raises(DataError, match="no sentence"):
        fit_confidence(np.zeros(0), np.zeros(0, bool))


def test_many_images_give_their_own_covariance():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    points = (rng.normal(size=(50000, 4)) @ mixing + 3).astype("float32")
    centre, precision = fit_familiar(points)
    np.testing.assert_allclose(centre, points.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(precision @ np.cov(points.T), np.eye(4), atol=0.05)


def test_few_images_in_many_channels_and_a_dead_channel_do_no_harm():
    points = np.random.default_rng(0).normal(size=(10, 40)).astype("float32")
    points[:, 3] = 1
    centre, precision = fit_familiar(points)
    assert np.isfinite(precision).all()
    assert np.linalg.eigvalsh(precision).min() > 0
    assert centre.dtype == precision.dtype == np.float32


def test_what_is_measured():
    lines = {GREEDY: (2.0, 1.0), BEAM: (0.0, 0.0)}
    known = Calibration(lines, np.zeros(1, "float32"), np.ones((1, 1), "float32"), 2.0)
    pooled = np.array([[[1.0]], [[5.0]]], "float32")
    written = Sentences(np.array([-0.5, -0.5]), np.array([True, False]), np.array([0, 1]))
    outcomes = Outcomes(pooled, np.ones((2, 1), bool), dict.fromkeys([GREEDY, BEAM, OTHER], written))
    values, curves = evaluate_calibration(known, outcomes)
    assert list(curves) == ["uncalibrated", "calibrated", "calibrated, beam 3"]
    assert values["flagged"] == 0.5
    base = values["sentences"]["base rate"]
    assert (base["n"], base["right"], base["Brier"], base["skill"]) == (2, 0.5, 0.25, 0)
    calibrated = values["sentences"]["calibrated"]  # .5 is stated twice, of one right sentence
    assert (calibrated["Brier"], calibrated["right"]) == pytest.approx((0.25, 0.5))
    assert curves["uncalibrated"].brier == pytest.approx(((1 - np.exp(-0.5)) ** 2 + np.exp(-1)) / 2)
    selective = values["selective"]  # one right, one wrong, and nothing tells them apart
    assert selective["chance"] == selective["area"] == selective["shown"][-1]["risk"] == 0.5
    assert selective["best"] == 0.25


@pytest.mark.parametrize("studies", [99, 200, 500])
def test_one_in_a_hundred_further_studies_is_beyond_the_usual_radius(studies):
    """The 99th percentile of 200 studies is exceeded by 1.5 % of further ones, not by 1 %."""
    rng = np.random.default_rng(0)
    radii, expected = zip(*(usual_radius(rng.chisquare(9, studies)) for _ in range(3000)))
    assert chi2.sf(radii, 9).mean() == pytest.approx(expected[0], abs=0.0008)
    assert expected[0] <= 0.01


def test_few_studies_have_their_greatest_distance_and_say_how_often_it_is_exceeded():
    assert usual_radius(np.array([2.0, 5.0, 1.0])) == (5, 1 / 4)
    assert usual_radius(np.arange(98.0)) == (97, 1 / 99)


def test_training_studies_are_drawn_and_not_the_first_ones():
    """Of a table in some order, such as by hospital, its first rows are no sample."""
    table = pd.DataFrame({"study_id": [str(i) for i in range(3000)]})
    drawn = drawn_studies(table, 600, 0)["study_id"].astype(int)
    # Kolmogorov and Smirnov's distance from the whole: 1.63 / sqrt(600) at level .01.
    assert kstest(drawn, "uniform", (0, 3000)).statistic < 0.066
    shuffled = table.sample(frac=1, random_state=1)
    assert set(drawn_studies(shuffled, 600, 0)["study_id"].astype(int)) == set(drawn)
    assert set(drawn_studies(table, 600, 1)["study_id"].astype(int)) != set(drawn)
    assert len(drawn_studies(table, 5000, 0)) == 3000


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "bundle")
    return tmp_path / "bundle"


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model that has learned nothing write two sentences, the more probable one right.

    Their probabilities are far too low, so that any line is better.
    """
    number = itertools.count()

    def said(caption, reference, config):
        yield from ((-2.0, True), (-4.0, next(number) % 3 == 0))

    monkeypatch.setattr("xray_captioning.training.calibration._compared", said)


@pytest.mark.usefixtures("compared")
def test_the_command(bundle: Path, phantoms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {name: (bundle / name).read_bytes() for name in bundle_files(bundle)}
    plot = tmp_path / "plot.png"
    line = ["calibrate", "--bundle", bundle, "--data", phantoms, "--beam", 1]
    assert run(*line, "--plot", plot) == 0
    assert "other studies are flagged as strange" in capfd.readouterr().out
    changed = {name for name in before if (bundle / name).read_bytes() != before[name]}
    assert changed == {"README.md"}
    about = json.loads((bundle / "calibration.json").read_text("utf-8"))["about"]
    split = json.loads((bundle / "split.json").read_text("utf-8"))
    assert about["fitted"]["part"] == "val"
    assert about["fitted"]["studies"] == len(split["val"])
    assert about["fitted"]["training_studies"] == len(split["train"])
    assert about["measured"]["studies"] == len(split["test"])
    assert (about["fitted"]["beam_sizes"], about["fitted"]["seed"]) == ("1", 0)
    assert plot.stat().st_size > 5000
    captioner = Captioner.load(bundle)
    assert captioner.calibration is not None
    first = (bundle / "calibration.h5").read_bytes(), (bundle / "calibration.json").read_bytes()
    assert run(*line) == 0
    again = (bundle / "calibration.h5").read_bytes(), (bundle / "calibration.json").read_bytes()
    assert first == again


def test_a_fit_that_tells_nothing_apart_changes_nothing(
    bundle: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    mistaken = [(-0.1, False), (-1.0, True)]
    monkeypatch.setattr("xray_captioning.training.calibration._compared", lambda *_: iter(mistaken))
    capfd.readouterr()
    assert run("calibrate", "--bundle", bundle, "--data", phantoms, "--beam", 1) == 2
    assert "beam size 1: of 12 sentences the more probable ones are" in capfd.readouterr().err
    assert before == {p.name: p.read_bytes() for p in bundle.iterdir() if p.is_file()}


def true_probabilities(count: int = 400) -> Sentences:
    """Return sentences as often right as their probability says, which no line can better."""
    rng = np.random.default_rng(0)
    found = np.log(rng.beta(4, 0.4, count))
    return Sentences(found, rng.random(count) < np.exp(found), np.arange(count) // 2)


def test_a_fit_that_makes_true_probabilities_worse_is_refused() -> None:
    written = true_probabilities()
    with pytest.raises(DataError, match=r"log loss 0\.\d+ instead of 0\.\d+.*--allow-worse"):
        _line(GREEDY, written, allow_worse=False)
    assert _line(GREEDY, written, allow_worse=True)[0] > 0
    wrong = written._replace(log_probabilities=10 * written.log_probabilities)
    assert _line(GREEDY, wrong, allow_worse=False)[0] > 0  # these are made better


def test_cross_fitting_states_of_a_study_what_others_taught() -> None:
    """Against scikit-learn, which leaves the same studies out."""
    written = true_probabilities()
    found = written.log_probabilities[:, None]
    line = LogisticRegression(C=1e6)
    expected = cross_val_predict(
        line, found, written.right, groups=written.studies, cv=GroupKFold(5), method="predict_proba"
    )[:, 1]
    np.testing.assert_allclose(cross_fitted(written), expected, atol=0.05)  # Platt's are softened
    alone = written._replace(studies=np.zeros(len(found)))
    assert np.isfinite(cross_fitted(alone)).all()


def test_probabilities_are_worse_by_log_loss_or_by_calibration_error() -> None:
    right = np.arange(1000) < 700
    true, low, sure = (calibration_scores(np.full(1000, p), right) for p in (0.7, 0.5, 0.9))
    assert true.log_loss == pytest.approx(log_loss(right, np.full(1000, 0.7)))
    assert low.worse_than(true)
    assert sure.worse_than(true)
    assert not true.worse_than(low)
    assert not true.worse_than(true)
    same = low._replace(calibration_error=true.calibration_error + 0.1)
    assert same._replace(log_loss=true.log_loss).worse_than(true)
    assert not same._replace(log_loss=true.log_loss, error_by_chance=0.2).worse_than(true)


def test_what_is_worse_on_other_studies_is_not_written(
    bundle: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    number = itertools.count()

    def said(caption, reference, config):
        fitted = next(number) % 12 < 6  # as many studies has each part
        yield from ((-4.0, fitted), (-6.0, fitted), (-9.0, False))

    monkeypatch.setattr("xray_captioning.training.calibration._compared", said)
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    line = ["calibrate", "--bundle", bundle, "--data", phantoms, "--beam", 1]
    capfd.readouterr()
    assert run(*line) == 2
    assert before == {p.name: p.read_bytes() for p in bundle.iterdir() if p.is_file()}
    output, error = capfd.readouterr()
    assert "calibrated" in output  # the table says what was found
    assert "6 other studies: what would be stated of 18 sentences is worse" in error
    assert run(*line, "--allow-worse") == 0
    assert (bundle / "calibration.json").is_file()


@pytest.mark.usefixtures("compared")
def test_other_studies_can_measure_it(bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    other = write_phantoms(tmp_path / "other", 6, seed=4, size=64)
    line = ["calibrate", "--bundle", bundle, "--data", phantoms, "--beam", 1]
    assert run(*line, "--check", other, "--part", "test") == 0
    about = json.loads((bundle / "calibration.json").read_text("utf-8"))["about"]
    assert about["fitted"]["part"] == "test"
    assert (about["measured"]["source"], about["measured"]["studies"]) == ("other", 6)


@pytest.mark.usefixtures("compared")
def test_it_can_be_fitted_on_further_studies(
    bundle: Path, phantoms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A validation part of 200 studies has six wrong sentences, too few to fit a line to."""
    further = write_phantoms(tmp_path / "further", 9, seed=5, size=64)
    other = write_phantoms(tmp_path / "other", 6, seed=4, size=64)
    line = ["calibrate", "--bundle", bundle, "--data", phantoms, "--beam", 1, "--fit", further]
    assert run(*line, "--check", other) == 0
    about = json.loads((bundle / "calibration.json").read_text("utf-8"))["about"]
    assert (about["fitted"]["part"], about["fitted"]["studies"]) == ("further", 9)
    assert about["fitted"]["expected_flagged"] == pytest.approx(1 / 10)
    assert about["measured"]["source"] == "other"
    assert "10.0% of studies like those it was fitted on are expected" in capfd.readouterr().out


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize("renamed", ["further", "own further", "own further other"])
def test_tables_may_call_their_columns_otherwise(bundle: Path, phantoms: Path, tmp_path: Path, renamed: str) -> None:
    """--columns is for those of the three that are tables of captions, and for no collection."""
    sources = {"own": phantoms}
    for seed, name in enumerate(("further", "other"), 4):
        sources[name] = write_phantoms(tmp_path / name, 6, seed=seed, size=64)
    for name in renamed.split():
        rows = read_studies(sources[name]).explode("images")
        rows = rows.rename(columns={"images": "file", "impression": "note"})
        sources[name] = tmp_path / f"{name}.csv"
        rows[["study_id", "file", "note"]].to_csv(sources[name], index=False)
    line = ["calibrate", "--bundle", bundle, "--data", sources["own"], "--beam", 1]
    line += ["--fit", sources["further"], "--check", sources["other"]]
    assert run(*line, "--columns", "image=file,caption=note") == 0
    about = json.loads((bundle / "calibration.json").read_text("utf-8"))["about"]
    assert (about["fitted"]["studies"], about["measured"]["studies"]) == (6, 6)


def swapped(bundle: Path, path: Path) -> Path:
    """Write a split whose validation studies were trained on."""
    split = Split.from_json(bundle / "split.json")
    Split(split.val, split.train, split.test).to_json(path)
    return path


def test_python_refuses_training_studies_too(bundle: Path, phantoms: Path) -> None:
    captioner, studies = Captioner.load(bundle), read_studies(phantoms)
    own = captioner.split
    with pytest.raises(ConfigError, match="captioner: was trained on 12 of the val studies"):
        calibrate(captioner, studies, Split(own.val, own.train, own.test))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--data {data} --split {swapped}", "was trained on 12 of the val studies"),
        ("--data {data} --split {measured}", "was trained on 12 of the test studies"),
        ("--data {data} --check {data}", "was trained on 12 of the test studies"),
        ("--data {data} --fit {data}", "was trained on 12 of the test studies"),
        ("--data {data} --fit {other} --check {other}", "calibration: was trained on 6 of the"),
        ("--data {data} --plot plot.gif", "let its name end in .png, .pdf, .svg"),
        ("--data {data} --bundle {encoder}", "holds an encoder only"),
        ("--data {data} --bundle phantom_attention", "is the shipped one or a hub's, which stay"),
    ],
)
def test_refusals(
    options: str,
    words: str,
    bundle: Path,
    phantoms: Path,
    tiny_encoder_run: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    places = {"data": phantoms, "swapped": swapped(bundle, tmp_path / "s.json")}
    own = Split.from_json(bundle / "split.json")
    places["measured"] = tmp_path / "measured.json"
    Split(own.test, own.val, own.train).to_json(places["measured"])
    if "{other}" in options:
        places["other"] = write_phantoms(tmp_path / "other", 6, seed=4, size=64)
    given = options.format(**places, encoder=tiny_encoder_run).split()
    capfd.readouterr()
    assert run("calibrate", "--bundle", bundle, *given) == 2
    assert words in capfd.readouterr().err
    assert before == {p.name: p.read_bytes() for p in bundle.iterdir() if p.is_file()}
