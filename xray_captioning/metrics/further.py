"""Metrics of other packages, by name, as a score a study: RadEval's, and METEOR as NLTK computes it.

``further.toml`` has their columns; docs/evaluation.md, where they differ from ours. CheXbert's F1 are of the whole set.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from typing import Any

import numpy as np

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.files import progress, read_toml
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics import clinical

KNOWN: dict[str, dict[str, Any]] = read_toml(__file__, "further.toml")
COLUMNS = tuple(column for known in KNOWN.values() for column in known["columns"])
SIGNED = frozenset(column for known in KNOWN.values() if known.get("signed") for column in known["columns"])
CHEXBERT, DEBIAN = "_chexbert", "/usr/share/wordnet"  # the ending of its scores; where Debian has WordNet
Texts = Sequence[str]
Metric = Callable[[Any, Any], Mapping[str, Any]]  # of lists of references and of texts


def present(scores: Mapping[str, Any]) -> list[str]:
    """Return which of the scores are of further metrics."""
    return [column for column in COLUMNS if column in scores]


def named(names: str | Iterable[str]) -> list[str]:
    """Return names of metrics, given in a list or one text with commas; one that is unknown is a ConfigError."""
    asked = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
    if unknown := [name for name in asked if name not in KNOWN]:
        raise ConfigError(f"metrics: there is no {unknown[0]!r}; choose of {', '.join(KNOWN)}")
    return asked


def opened(names: str | Iterable[str]) -> dict[str, Metric]:
    """Load metrics that are `named`; what cannot be loaded is a ConfigError."""
    shown = progress(named(names), "loading", leave=False)
    return {name: _meteor() if name == "meteor" else _radeval(name) for name in shown}


@contextmanager
def _apart(name: str, what: str, kind: type[Exception]) -> Iterator[None]:
    """Keep others from printing, and RadEval from turning off all later warnings; what they raise becomes one line."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:  # whatever a package, or a hub that it asks, raises
            raise kind(f"metrics: {name} cannot {what} ({error!r:.300}); see to that, or leave it out") from error


def _radeval(name: str) -> Metric:
    with _apart(name, f"be loaded; it needs the extra radeval and {KNOWN[name]['loads']}", ConfigError):
        import radeval

        sys.modules.setdefault("RadEval", radeval)  # as it imports parts of itself: found by some file systems only
        metric = radeval.RadEval(metrics=[name], per_sample=True, show_progress=False)
        return partial(_chexbert, metric.f1chexbert_scorer) if name == "f1chexbert" else metric


def _chexbert(scorer: Any, references: list[str], texts: list[str]) -> Mapping[str, Any]:
    """Return the `confusion` of CheXbert's labels, uncertain ones present: (studies, 18, 3)."""
    labels = np.zeros((2, len(texts), len(FINDINGS)), np.int8)
    order = [FINDINGS.index(name) for name in scorer.TARGET_NAMES]
    labels[:, :, order] = [scorer.get_labels(column) for column in (references, texts)]
    return {"findings" + CHEXBERT: clinical.confusion(*labels)}


def _meteor() -> Metric:
    with _apart("meteor", f"be loaded; it needs {KNOWN['meteor']['loads']}", ConfigError):
        from nltk import corpus, data
        from nltk.translate.meteor_score import single_meteor_score

        class Debian(corpus.WordNetCorpusReader):  # which lacks the names of topics, on which no score depends
            def open(self, file: str) -> Any:
                topics = "".join(f"{number} topic 0\n" for number in range(45))
                return StringIO(topics) if file == "lexnames" else super().open(file)

            map_wn: Any = dict  # there is no other version to map to

        try:
            corpus.wordnet.ensure_loaded()
            score = partial(single_meteor_score, wordnet=corpus.wordnet)
        except LookupError:
            data.path.append(DEBIAN)  # NLTK opens nothing elsewhere
            score = partial(single_meteor_score, wordnet=Debian(DEBIAN, None))
    return lambda wanted, said: {"METEOR-NLTK": [score(r.split(), t.split()) for r, t in zip(wanted, said)]}


def statistics(metrics: Mapping[str, Metric], references: Texts, reports: Texts, texts: Texts) -> dict[str, Any]:
    """Return what `scores_from_sums` adds up, (studies, ...), of a system's texts."""
    found: dict[str, Any] = {}
    for name, metric in metrics.items():
        with _apart(name, f"score {len(texts)} texts, {sum(not t.strip() for t in texts)} of them empty", DataError):
            scores = metric(references if KNOWN[name].get("words") else reports, list(texts))
            for column in ["findings" + CHEXBERT] if name == "f1chexbert" else KNOWN[name]["columns"]:
                values = np.array(scores[column.removeprefix("-")], dtype=float)
                found[column] = -values if column.startswith("-") else values
                if len(values) != len(texts) or not np.isfinite(values).all():
                    raise ValueError(f"{np.isfinite(values).sum()} scores")
    return found


def scores_from_sums(sums: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the scores of samples, (samples,), from sums of `statistics`."""
    key, means = "findings" + CHEXBERT, {name: sums[name] / sums["n"] for name in present(sums)}
    f1 = clinical.scores_from_counts(sums[key]) if key in sums else {}
    return means | {n + CHEXBERT: values for n, values in f1.items() if n + CHEXBERT in COLUMNS}
