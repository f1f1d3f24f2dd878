"""Label the findings that a report names, by rules over its sentences and without a model.

:mod:`xray_captioning.metrics.labels` has the steps and the rules. Labels and how mentions combine are CheXpert's
(Irvin et al., AAAI 2019); how the Indiana University reports were coded say Demner-Fushman et al., JAMIA 2016.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.findings import FINDINGS, NO_FINDING
from xray_captioning.metrics.labels import layout, spelling, statement

T = TypeVar("T")
Mention = statement.Mention
PRESENT, DENIED, UNCERTAIN = statement.PRESENT, statement.DENIED, statement.UNCERTAIN
CONVENTIONS = tuple(statement.LABELS)
"""Whose reading a label follows: CheXpert's authors', or that of those who coded Open-i."""
_CONVENTION = ContextVar("convention", default=CONVENTIONS[0])


@contextmanager
def read_by(convention: str | None) -> Iterator[None]:
    """Read all reports in this block by a convention where none is named; None changes nothing."""
    token = _CONVENTION.set(convention_of(convention))
    try:
        yield
    finally:
        _CONVENTION.reset(token)


def convention_of(name: str | None = None) -> str:
    """Return the convention of this name, by default that of `read_by` or else chexpert."""
    name = _CONVENTION.get() if name is None else name
    if name not in CONVENTIONS:
        raise ConfigError(f"there is no convention {name!r}; take {' or '.join(CONVENTIONS)}")
    return name


def find_mentions(text: str, convention: str | None = None) -> list[Mention]:
    """Return every place where a report names a finding, in reading order; raises what :func:`label_report` raises."""
    return [m for m in _said(statement.mentions, text, convention) if m.finding != statement.OTHER]


def label_report(text: str, convention: str | None = None) -> dict[str, int | None]:
    """Label a report: for each finding, whether it is present, denied, uncertain or not mentioned.

    Parameters
    ----------
    text : str
        A report, raw or cleaned; headings, lists and forms ("Effusion: none") are read as such.
    convention : {"chexpert", "mesh"}, optional
        By default chexpert, or that of :func:`read_by`. What is said where careful readers differ: "no new opacity"
        is uncertain to CheXpert's authors and no finding to the coders of Open-i (docs/evaluation.md has the list).

    Returns
    -------
    dict
        By name of :data:`xray_captioning.findings.FINDINGS`, in order: 1 present, 0 denied, -1 uncertain, None not
        mentioned. As in CheXpert, one certain mention outweighs uncertain ones, and these denials. "No Finding" is 1
        when no finding is present or uncertain, nor any other abnormality such as a raised diaphragm (support devices
        do not count), else None. For a text without a single letter every label is None.

    Raises
    ------
    DataError, ConfigError
        If `text` is not a string, or there is no such convention.

    Examples
    --------
    >>> labels = label_report("Small left effusion, cannot exclude PNA. No PTX.")
    >>> {name: label for name, label in labels.items() if label is not None}
    {'Pneumonia': -1, 'Pneumothorax': 0, 'Pleural Effusion': 1}
    """
    labels: dict[str, int | None] = dict.fromkeys(FINDINGS)
    found = False
    for name, new in _said(statement.labels, text, convention):
        found |= new != DENIED and name != "Support Devices"
        if name != statement.OTHER and (not labels[name] or new == PRESENT):
            labels[name] = new
    if not found and any(map(str.isalpha, text)):
        labels[NO_FINDING] = PRESENT
    return labels


class Explanation(dict[str, Mention]):
    """By finding the mention that decided its label, and every mention of a device."""

    devices: list[Mention]  # ``device`` says what it is, ``placement`` if it is "satisfactory" or "malpositioned"


def explain_report(text: str, convention: str | None = None) -> Explanation:
    """Say of each finding that a report names which words and which cue decided its label.

    It takes and raises what :func:`label_report` does.

    Returns
    -------
    Explanation
        For each finding with a label, in reading order, the first mention with that label. Its ``words`` name the
        finding, ``status`` says what was decided ("present", "denied", "resolved", ...), ``cue`` by which words.

    Examples
    --------
    >>> mention = explain_report("Effusion has been drained. No PTX.")["Pleural Effusion"]
    >>> mention.words, mention.status, mention.cue
    ('effusion', 'resolved', 'has been drained')
    >>> [(m.device, m.placement) for m in explain_report("ETT in the right mainstem.").devices]
    [('endotracheal tube', 'malpositioned')]
    """
    labels, mentions = label_report(text, convention), find_mentions(text, convention)
    deciding = Explanation()
    deciding.devices = [mention for mention in mentions if mention.finding == "Support Devices"]
    for mention in mentions:
        if mention.label == labels[mention.finding]:
            deciding.setdefault(mention.finding, mention)
    return deciding


def _said(kept: Callable[[str], spelling.Kept[str, tuple[T, ...]]], text: str, convention: str | None) -> Iterator[T]:
    if not isinstance(text, str):
        raise DataError(f"a report must be text, not {type(text).__name__}; use an empty string where there is none")
    return chain.from_iterable(map(kept(convention_of(convention)).__getitem__, layout.statements(text)))


Bits: TypeAlias = NDArray[np.uint32]
"""What is said, a column a finding and one for the rest, `REST`: of a report the "or" of its statements."""
LABEL_BITS, BITS = {PRESENT: 1, UNCERTAIN: 2, DENIED: 4}, 3  # and how many these are
REST, LETTERS, ABNORMAL, REST_BITS = len(FINDINGS), 1, 2, 2
_FIRST = {written: np.array([0] * REST + [LETTERS * written], np.uint32).tobytes() for written in (False, True)}


def label_bits(convention: str, text: str) -> Bits:
    """Return what labels a statement of lower case gives findings: (19,)."""
    row = np.zeros(REST + 1, np.uint32)
    for name, label in statement.labels(convention)[text]:
        if label != DENIED and name != "Support Devices":
            row[REST] |= ABNORMAL
        if name != statement.OTHER:
            row[FINDINGS.index(name)] |= LABEL_BITS[label]
    return row


@cache
def kept_bits(found: Callable[[str, str], Bits], convention: str) -> spelling.Kept[str, bytes]:
    """Return the bytes of what is found in statements, `label_bits` or more."""
    return spelling.Kept(lambda text: found(convention, text).tobytes(), most=1 << 17)


def report_bits(texts: Sequence[str], rows: spelling.Kept[str, bytes]) -> Bits:
    """Return the bits of reports, by those of statements: (n, 19). Equal texts are read once."""
    number: dict[str, int] = {}
    own = [number.setdefault(text, len(number)) for text in texts]
    found = [_FIRST[any(map(str.isalpha, t))] + b"".join(map(rows.__getitem__, layout.statements(t))) for t in number]
    every = np.frombuffer(b"".join(found), np.uint32).reshape(-1, REST + 1)
    ends = np.cumsum([len(rows) // every.strides[0] for rows in found])
    return np.bitwise_or.reduceat(every, np.append(0, ends[:-1]))[own] if texts else every
