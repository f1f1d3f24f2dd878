"""Systems, the texts that persons or programs wrote for the evaluated studies, and references."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from xray_captioning.text.cleaning import clean_r2gen

R2GEN = "r2gen"  # the protocol, and its cleaning
MINIMUM_FREQUENCY, MAXIMUM_WORDS = 3, 59  # of training words; of a reference that is scored


class System(NamedTuple):
    """What one system wrote for the evaluated studies, in their order."""

    name: str
    search: str | None  # ``greedy``, ``beam-3`` …, or None where nothing was searched
    texts: list[str]
    kind: str = "system"  # or what it is compared with: "baseline", "shuffled"
    others: Sequence[list[str]] = ()  # of further runs: training seeds, or random draws

    @property
    def column(self) -> str:
        """Name of the system's column in ``captions.csv``, or what such columns begin with."""
        return f"{self.name} {self.search}" if self.search else self.name

    @property
    def runs(self) -> list[list[str]]:
        """Texts of every run; the system's scores are the mean over them."""
        return [self.texts, *self.others]

    @property
    def columns(self) -> dict[str, list[str]]:
        """Columns of ``captions.csv``: one a run of a system, the first draw of what is random."""
        if self.kind != "system" or not self.others:
            return {self.column: self.texts}
        return {f"{self.column} run {n}": texts for n, texts in enumerate(self.runs, 1)}


class ReportTexts(NamedTuple):
    """What readers wrote of the evaluated and of the training studies, and what is scored of it.

    The reports' findings and sides count. They differ from the references, which words are compared
    with, where a protocol alters those: a rare word that becomes ``<unk>`` may be a finding or a
    "without".
    """

    references: list[str]  # of the evaluated studies
    reports: list[str]  # of the same studies
    training: list[str]  # of the training studies; a system may repeat one of them
    targets: list[str]  # the same as the protocol alters references
    whole: list[str] | None = None  # the references, where a protocol truncates them, before that

    @classmethod
    def unaltered(cls, references: list[str], training: list[str]) -> Self:
        """Return texts that no protocol alters."""
        return cls(references, references, training, training)

    @classmethod
    def as_r2gen(cls, reports: list[str], training: list[str], asis: list[str], learned: list[str]) -> Self:
        """Return cleaned texts, and references that R2Gen's evaluation makes of uncleaned ones."""
        vocabulary = r2gen_vocabulary(learned)
        references, whole = (r2gen_references(asis, vocabulary, most) for most in (MAXIMUM_WORDS, None))
        return cls(references, reports, training, r2gen_references(learned, vocabulary), whole)


def r2gen_vocabulary(training_reports: Iterable[str]) -> frozenset[str]:
    """Return the cleaned words that training reports have at least three times."""
    counts = Counter(word for text in training_reports for word in clean_r2gen(text).split())
    return frozenset(word for word, number in counts.items() if number >= MINIMUM_FREQUENCY)


def r2gen_references(
    reports: Iterable[str], vocabulary: frozenset[str], maximum_words: int | None = MAXIMUM_WORDS
) -> list[str]:
    """Make the references that R2Gen's evaluation on IU X-ray scores against.

    Reports are cleaned; words not in `vocabulary` become ``<unk>``, and those after the 59th, or
    None, are left out; a system's texts are only cleaned (Chen et al., EMNLP 2020, and its released
    code: threshold 3, sequences of 60 with one start token).
    """
    cleaned = (clean_r2gen(text).split()[:maximum_words] for text in reports)
    return [" ".join(w if w in vocabulary else "<unk>" for w in words) for words in cleaned]
