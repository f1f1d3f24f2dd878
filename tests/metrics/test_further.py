"""Metrics of other packages: a small stand-in keeps RadEval's contract, and where RadEval is installed it is asked."""

import os
import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.metrics import further
from xray_captioning.metrics.bleu import bleu_from_statistics, block_statistics
from xray_captioning.metrics.ngrams import blocks, checked_pairs

CHEXBERT = [
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
    "No Finding",
]
FIVE = ["Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion"]
REFERENCES = ["no effusion or edema .", "edema and small effusion .", "heart is enlarged .", "clear lungs ."]
TEXTS = ["no effusion .", "small effusion .", "heart is enlarged .", "edema ."]


class StandIn:
    """What of RadEval 2.2.1 is relied on: its arguments, its columns, one value a text; and its habits."""

    def __init__(self, metrics: list[str], per_sample: bool = False, show_progress: bool = True) -> None:
        warnings.filterwarnings("ignore")
        print("Using device: cpu")
        assert per_sample
        assert not show_progress
        assert isinstance(metrics, list)
        assert len(metrics) == 1
        if metrics == ["green"]:
            raise OSError("We couldn't connect to 'https://hub'\nto load the files.")
        self.asked, self.f1chexbert_scorer = metrics[0], SimpleNamespace(TARGET_NAMES=CHEXBERT, get_labels=labels)

    def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, list[float]]:
        assert isinstance(refs, list)
        assert isinstance(hyps, list)
        assert len(refs) == len(hyps)
        print("scoring")
        shares = [len({*r.split()} & {*h.split()}) / len({*r.split()}) for r, h in zip(refs, hyps)]
        if self.asked == "ratescore":  # it drops empty texts
            return {"ratescore": [value for value, text in zip(shares, hyps) if text]}
        if self.asked == "temporal":
            return {"temporal_f1": [None, *shares[1:]]}
        return {column.removeprefix("-"): shares for column in further.KNOWN[self.asked]["columns"]}


def labels(texts: list[str]) -> list[list[int]]:
    words = {"Cardiomegaly": "enlarged", "Edema": "edema", "Pleural Effusion": "effusion", "No Finding": "clear"}
    return [[int(words.get(name, "none") in text and "no " not in text) for name in CHEXBERT] for text in texts]


@pytest.fixture
def radeval(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("radeval")
    module.RadEval = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "radeval", module)
    monkeypatch.setitem(sys.modules, "RadEval", module)


def scores(name: str, references: list[str], texts: list[str]) -> dict[str, float]:
    counted = further.statistics(further.opened(name), references, references, texts)
    sums = {key: values.sum(0, keepdims=True) for key, values in counted.items()} | {"n": np.array([len(texts)])}
    return {key: float(values[0]) for key, values in further.scores_from_sums(sums).items()}


@pytest.mark.parametrize("names", ["radgraph, bertscore,", ["radgraph", "bertscore"]])
def test_names_are_a_list_or_one_text(radeval: None, names: str | list[str]) -> None:
    assert list(further.opened(names)) == ["radgraph", "bertscore"]
    assert further.opened("") == further.opened([]) == {}


def test_an_unknown_name_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "radeval", None)
    with pytest.raises(ConfigError, match="there is no 'rogue'; choose of meteor, bleu, rouge, "):
        further.opened("bleu,rogue")


def test_what_is_not_installed_or_not_reached_is_one_line(radeval: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"green cannot be loaded; .*GREEN-radllama2-7b.*couldn't connect") as e:
        further.opened("bleu,green")
    assert "\n" not in str(e.value)
    monkeypatch.setitem(sys.modules, "radeval", None)
    with pytest.raises(ConfigError, match="rouge cannot be loaded; it needs the extra radeval") as e:
        further.opened("rouge")
    assert "\n" not in str(e.value)


def test_what_radeval_prints_and_turns_off_stays_with_it(radeval: None, capfd: pytest.CaptureFixture[str]) -> None:
    before = list(warnings.filters)
    further.statistics(further.opened("bertscore"), REFERENCES, REFERENCES, TEXTS)
    assert warnings.filters == before
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


def test_every_column_is_a_mean_and_minus_one_of_which_less_is_better(radeval: None) -> None:
    expected = np.mean([3 / 5, 3 / 5, 1, 1 / 3])
    found = scores("radgraph,radcliq", REFERENCES, TEXTS)
    columns = dict.fromkeys(further.KNOWN["radgraph"]["columns"], expected)
    assert found == pytest.approx(columns | {"-radcliq_v1": -expected})


def test_words_are_compared_with_references_and_meaning_with_reports(radeval: None) -> None:
    metrics = further.opened("bleu,bertscore")
    found = further.statistics(metrics, ["<unk> .", "a"], ["edema .", "b"], ["edema .", "b"])
    assert found["bleu"].tolist() == [0.5, 0]
    assert found["bertscore"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "said"), [("ratescore", "1 of them empty .*3 scores"), ("temporal", "0 of them empty .*3 scores")]
)
def test_a_text_without_a_score_is_an_error(radeval: None, name: str, said: str) -> None:
    texts = ["", *TEXTS[1:]] if name == "ratescore" else TEXTS
    with pytest.raises(DataError, match=f"{name} cannot score 4 texts, {said}"):
        further.statistics(further.opened(name), REFERENCES, REFERENCES, texts)


def test_chexbert_is_f1_of_all_texts_as_scikit_learn_computes_it(radeval: None) -> None:
    from sklearn.metrics import f1_score

    wanted, said = np.array(labels(REFERENCES)), np.array(labels(TEXTS))
    five = [CHEXBERT.index(name) for name in FIVE]
    expected = {
        f"{kind}_f1_{group}_chexbert": f1_score(wanted[:, of], said[:, of], average=kind, zero_division=0)
        for kind in ("micro", "macro")
        for group, of in (("14", list(range(14))), ("5", five))
    }
    assert scores("f1chexbert", REFERENCES, TEXTS) == pytest.approx(expected)
    assert len(set(expected.values())) > 2


def test_meteor_of_no_synonym_is_that_of_equal_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from nltk.corpus import wordnet

    none = SimpleNamespace(ensure_loaded=lambda: None, synsets=lambda word: [])
    monkeypatch.setattr("nltk.corpus.wordnet", none)
    found = further.opened("meteor")["meteor"](["a b c d", "big heart"], ["a b d", "heart"])["METEOR-NLTK"]
    # Lavie and Agarwal 2007: F of precision and recall, 1 to 9, less half the cube of chunks a match.
    assert found == pytest.approx([(10 * 3 / 4 / (9 + 3 / 4)) * (1 - 0.5 * (2 / 3) ** 3), (10 / 2 / (9 + 1 / 2)) * 0.5])
    assert wordnet is not none


def test_meteor_without_wordnet_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    def absent() -> None:
        raise LookupError("Resource wordnet not found")

    monkeypatch.setattr("nltk.corpus.wordnet", SimpleNamespace(ensure_loaded=absent))
    monkeypatch.setattr("nltk.data.path", [])
    monkeypatch.setattr(further, "DEBIAN", str(tmp_path) + "/none")
    with pytest.raises(
        ConfigError, match=r"needs WordNet: python -m nltk\.downloader wordnet, or Debian's package"
    ) as e:
        further.opened("meteor")
    assert "\n" not in str(e.value)


@pytest.mark.skipif(not os.path.isdir(further.DEBIAN), reason=f"needs {further.DEBIAN} (Debian's package wordnet-base)")
def test_meteor_knows_the_synonyms_of_wordnet() -> None:
    meteor = further.opened("meteor")["meteor"]
    texts = ["the chest is clear", "the thorax is clear", "the heart is clear"]
    equal, synonym, other = meteor(["the chest is clear"] * 3, texts)["METEOR-NLTK"]
    assert equal == synonym > other


def phantom_pairs(number: int) -> tuple[list[str], list[str]]:
    """Return findings of phantoms, and those of the next one."""
    from xray_captioning.phantom.studies import sample_study
    from xray_captioning.phantom.wording import report
    from xray_captioning.text.cleaning import clean

    generators = [np.random.default_rng(seed) for seed in range(number)]
    texts = [clean(report(sample_study(rng), rng)["findings"], "plain") for rng in generators]
    return texts, [*texts[1:], texts[0]]


def test_radeval_agrees_where_it_claims_the_same() -> None:
    pytest.importorskip("radeval", reason="needs RadEval, the extra radeval")
    references, texts = phantom_pairs(40)
    found = further.statistics(further.opened("bleu,rouge"), references, references, texts)
    (block,) = blocks(checked_pairs(references, texts))
    assert found["bleu"] == pytest.approx(bleu_from_statistics(block_statistics(block))[:, 3], abs=1e-12)
    from radeval import RadEval

    whole = RadEval(metrics=["bleu"], show_progress=False)(refs=references, hyps=texts)["bleu"]
    assert whole == round(float(bleu_from_statistics(block_statistics(block).sum(0))[3]), 4)
    from rouge_score.rouge_scorer import RougeScorer

    stems = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    rows = [stems.score(r, t) for r, t in zip(references, texts)]
    for name in ("rouge1", "rouge2", "rougeL"):
        assert found[name] == pytest.approx([row[name].fmeasure for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(further.KNOWN) - {"meteor", "bleu", "rouge"}))
def test_radeval_is_loaded_or_says_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("radeval", reason="needs RadEval, the extra radeval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = []
    try:
        further.opened(name)
    except ConfigError as error:
        lines = str(error).splitlines()
    assert not lines or (len(lines) == 1 and f"{name} cannot be loaded; it needs the extra radeval and" in lines[0])
