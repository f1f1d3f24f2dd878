"""Label the findings that a report names, by rules over its sentences and without a model.

A report is split into sentences and each sentence into words. ``phrases.txt`` holds the words that
name findings, ``negations.txt`` those that deny or doubt them and those that end a clause; both are
meant to be read and edited. Sentences repeat from report to report, so their labels are cached.

References
----------
.. [1] Chapman et al., "A Simple Algorithm for Identifying Negated Findings and Diseases in
   Discharge Summaries", Journal of Biomedical Informatics 34(5), 2001: cues with a scope.
.. [2] Irvin et al., "CheXpert", AAAI 2019: the four label values and how mentions combine.
"""

import re
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import NamedTuple

from xray_captioning.errors import DataError
from xray_captioning.findings import FINDINGS, NO_FINDING

PRESENT, DENIED, UNCERTAIN = 1, 0, -1
BILATERAL = frozenset({"left", "right"})
# Findings of the midline or of both lungs at once: a side beside them belongs to something else.
MIDLINE = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum", "Hiatal Hernia"})
# Findings that are rarely on one side: they take a side named beside them, but not that of a
# finding in the same list.
DIFFUSE = frozenset({"Edema", "Emphysema", "Scoliosis"})

# Each alternative begins with one of four characters, so that the search skips all others fast.
_SENTENCE_END = re.compile(r"[.?!]+(?=\s|$)|\.(?<=[a-z]\.)(?=[a-z]{2})|\n\s*\n")
_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+|[,:;/()]")
_REMOVED = re.compile(r"\bx{2,}\b")
# No radiologist writes a sentence of a thousand characters, but a broken model may. Such a sentence
# is read in pieces, so that time grows only in proportion to length. Long sentences are not cached.
_PIECE = re.compile(r".{1,1000}(?!\S)|.{1,1000}", re.DOTALL)
_LONGEST_KEPT = 300
_NOT = re.compile(r"\b(?:not|no|nor)\b")
_SIDE = re.compile(
    r"\b(?:(left|leftsided|leftward|lingula|lingular|levo\w*)"
    r"|(right|rightsided|rightward|middle lobe|dextro\w*)"
    r"|(bilateral|bilaterally|both|bases|apices|biapical|bibasilar|bibasal\w*))\b"
    r"(?! (?:heart|atri\w+|ventric\w+|lateral (?:view|decubitus|film)))"
)
_CONJUNCTION = re.compile(r"[,:;/]|\b(?:and|or|with|without|versus|vs)\b")
# The words between two findings of one list, which share a side: at most one more word.
_LIST = re.compile(r" (?:, )?(?:and / or|and|or|,|/|versus|vs|with)(?: \w+)? ")
# The words between a finding and its explanation, which is on the same side.
_EXPLAINED = re.compile(
    r"\b(?:represent\w*|reflect\w*|suggest\w*|due to|secondary to"
    r"|(?:consistent|compatible|keeping) with)\b"
)

# The finding that a term of the Indiana University collection's MeSH coding names. Only the part of
# a term up to the first "/" counts.
MESH_FINDINGS = {
    "cardiomegaly": "Cardiomegaly",
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "hydropneumothorax": "Pneumothorax",
    "pulmonary atelectasis": "Atelectasis",
    "pulmonary edema": "Edema",
    "pulmonary congestion": "Edema",
    "fractures, bone": "Fracture",
    "nodule": "Lung Lesion",
    "mass": "Lung Lesion",
    "emphysema": "Emphysema",
    "pulmonary emphysema": "Emphysema",
    "calcified granuloma": "Granuloma",
    "granuloma": "Granuloma",
    "scoliosis": "Scoliosis",
    "hernia, hiatal": "Hiatal Hernia",
}


class Mention(NamedTuple):
    """One place where a report names a finding."""

    finding: str  # one of :data:`xray_captioning.findings.FINDINGS`, never "No Finding"
    label: int  # 1 present, 0 denied, -1 uncertain
    sides: frozenset[str]  # named in its clause: none, left, right or (bilateral) both of them
    sentence: str  # in lower case, its words and commas separated by single spaces


class _Phrase(NamedTuple):
    """A pattern of all lines of one section and kind that can begin with the same word."""

    section: str  # "finding", "before", "after" or "stop"
    kind: str  # a finding's "", "-", "?" or "!"; a cue's "denied", "uncertain", ...
    findings: tuple[str, ...]
    pattern: re.Pattern[str]


class _Hit(NamedTuple):
    """A phrase found in a sentence."""

    start: int
    end: int
    kind: str
    finding: str = ""


class _Sentence(NamedTuple):
    """A sentence and what was found in it, in reading order."""

    words: str
    findings: list[_Hit]
    before: list[_Hit]
    after: list[_Hit]
    stops: list[int]  # where a new clause begins


class _Rules(NamedTuple):
    """Both data files: phrases by their first word, and words that no cue reaches across."""

    phrases: dict[str, list[_Phrase]]
    blocked: frozenset[str]


def find_mentions(text: str) -> list[Mention]:
    """Return every place where a report, raw or cleaned, names a finding, in reading order.

    Raises
    ------
    DataError
        `text` is not a string.
    """
    return [mention for sentence in _sentences(text) for mention in sentence]


def label_report(text: str) -> dict[str, int | None]:
    """Label a report: for each finding, whether it is present, denied, uncertain or not mentioned.

    Parameters
    ----------
    text : str
        A report, raw or cleaned; sentences end with a full stop.

    Returns
    -------
    dict
        One entry for each name of :data:`xray_captioning.findings.FINDINGS`, in that order: 1
        present, 0 denied, -1 uncertain, None not mentioned.

    Raises
    ------
    DataError
        If `text` is not a string.

    Notes
    -----
    As in CheXpert, one certain mention outweighs uncertain ones, and an uncertain one outweighs
    denials. "No Finding" is 1 when no finding is present or uncertain (support devices do not
    count) and None otherwise; it is never 0. For a text without a single letter every label is
    None, "No Finding" included.
    """
    labels: dict[str, int | None] = dict.fromkeys(FINDINGS)
    for sentence in _sentences(text):
        for mention in sentence:
            labels[mention.finding] = _stronger(labels[mention.finding], mention.label)
    found = any(labels[name] for name in FINDINGS if name != "Support Devices")
    if not found and any(map(str.isalpha, text)):
        labels[NO_FINDING] = PRESENT
    return labels


def _stronger(old: int | None, new: int) -> int:
    if old is None or old == DENIED:
        return new
    return PRESENT if PRESENT in (old, new) else UNCERTAIN


def _sentences(text: str) -> Iterator[tuple[Mention, ...]]:
    """Yield the mentions of each sentence of a report."""
    if not isinstance(text, str):
        raise DataError(
            f"a report must be text, not {type(text).__name__}; "
            "use an empty string where there is none"
        )
    for raw in _SENTENCE_END.split(text.lower()):
        if len(raw) <= _LONGEST_KEPT:
            if raw and not raw.isspace():
                yield _read_sentence(raw.strip())
        else:
            for piece in _PIECE.findall(raw):
                yield _read_sentence.__wrapped__(piece)


@lru_cache(maxsize=1 << 15)
def _read_sentence(raw: str) -> tuple[Mention, ...]:
    """Return the mentions in one lower-case sentence."""
    sentence = _scan(" ".join(_WORD.findall(_REMOVED.sub(" ", raw))))
    if not sentence.findings:
        return ()
    labels = (_label(hit, sentence) for hit in sentence.findings)
    return tuple(
        Mention(hit.finding, label, sides, sentence.words)
        for hit, label, sides in zip(sentence.findings, labels, _sides(sentence), strict=True)
        if label is not None
    )


def _scan(words: str) -> _Sentence:
    """Find the findings and cues of a sentence; each word is looked up once."""
    hits: dict[str, list[_Hit]] = {"finding": [], "before": [], "after": [], "stop": []}
    phrases, start = _rules().phrases, 0
    for word in words.split(" "):
        for phrase in phrases.get(word, ()):
            match = phrase.pattern.match(words, start)
            if match:
                end = match.end()
                hits[phrase.section] += [
                    _Hit(start, end, phrase.kind, name) for name in phrase.findings
                ]
        start += len(word) + 1
    return _Sentence(
        words,
        _findings(hits["finding"]),
        _longest(hits["before"]),
        _longest(hits["after"]),
        [hit.start for hit in _longest(hits["stop"]) if hit.kind == "stop"],
    )


def _findings(hits: list[_Hit]) -> list[_Hit]:
    """Keep one hit where several of a finding overlap, and drop those that only sound like it."""
    hits.sort(key=lambda hit: (hit.start, hit.kind != "!", hit.end))
    kept: list[_Hit] = []
    reach: dict[str, int] = {}
    for hit in hits:
        if hit.start >= reach.get(hit.finding, 0):
            reach[hit.finding] = hit.end
            kept.append(hit)
    return [hit for hit in kept if hit.kind != "!"]


def _longest(cues: list[_Hit]) -> list[_Hit]:
    """Keep the first of overlapping cues, and the longest of those that begin together."""
    if len(cues) < 2:
        return cues
    cues.sort(key=lambda hit: (hit.start, -hit.end))
    kept = cues[:1]
    for hit in cues[1:]:
        if hit.start >= kept[-1].end:
            kept.append(hit)
    return kept


def _label(hit: _Hit, sentence: _Sentence) -> int | None:
    """Label a hit by its own words and the cues of its clause; None if it is no statement."""
    turned = _NOT.search(sentence.words, hit.start, hit.end) is not None
    if hit.kind == "-":
        return None if turned else DENIED
    cues = _cues(hit, sentence)
    if "unsaid" in cues:
        return None
    if turned or "denied" in cues:
        return DENIED
    return UNCERTAIN if hit.kind == "?" or "uncertain" in cues else PRESENT


def _cues(hit: _Hit, sentence: _Sentence) -> set[str]:
    """Return the kinds of the cues of a hit: all before it in its clause, and one after it."""
    first = max((stop for stop in sentence.stops if stop <= hit.start), default=0)
    last = min((stop for stop in sentence.stops if stop >= hit.end), default=len(sentence.words))
    kinds = {cue.kind for cue in sentence.before if first <= cue.start and cue.end <= hit.start}
    for cue in sentence.after:
        if hit.end <= cue.start <= last:
            if _rules().blocked.isdisjoint(sentence.words[hit.end : cue.start].split()):
                kinds.add(cue.kind)
            break
    return kinds


def _sides(sentence: _Sentence) -> list[frozenset[str]]:
    """Return the sides named in each finding's part of the sentence.

    A part ends at the last conjunction before the next finding. In "left effusion and
    atelectasis" and in "effusion and atelectasis on the left" both findings have the side, and so
    has a finding that explains another one ("left opacity suggesting atelectasis"). In "left
    effusion and emphysema" the emphysema has none.
    """
    hits, words = sentence.findings, sentence.words
    alone = [hit.finding in DIFFUSE for hit in hits]
    parts = [_named_sides(part) for part in _parts(sentence)]
    between = [(one.end, max(one.end, two.start)) for one, two in pairwise(hits)]
    listed = [a == b or _LIST.fullmatch(words, a, b) is not None for a, b in between]
    for i, (a, b) in enumerate(between):
        explained = _EXPLAINED.search(words, a, b) is not None
        if not parts[i + 1] and (explained or (listed[i] and not alone[i + 1])):
            parts[i + 1] = parts[i]
    for i, (a, b) in reversed(list(enumerate(between))):  # "and left nodule": of the nodule alone
        if not parts[i] and listed[i] and not alone[i] and not _named_sides(words[a:b]):
            parts[i] = parts[i + 1]
    return [
        frozenset() if hit.finding in MIDLINE else part
        for hit, part in zip(hits, parts, strict=True)
    ]


def _parts(sentence: _Sentence) -> list[str]:
    """Return the words that belong to each finding of a sentence."""
    edges = [0]
    for one, two in pairwise(sentence.findings):
        ends = [m.start() for m in _CONJUNCTION.finditer(sentence.words, one.end, two.start)]
        ends += [stop for stop in sentence.stops if one.end <= stop <= two.start]
        edges.append(max(ends, default=max(edges[-1], min(one.end, two.start))))
    edges.append(len(sentence.words))
    return [sentence.words[a:b] for a, b in pairwise(edges)]


def _named_sides(words: str) -> frozenset[str]:
    sides: set[str] = set()
    for match in _SIDE.finditer(words):
        sides.update(BILATERAL if match.group(3) else {"left" if match.group(1) else "right"})
    return frozenset(sides)


@cache
def _rules() -> _Rules:
    """Read both data files."""
    cues = dict(_sections("negations.txt"))
    gap = cues.pop("gap")[0]
    blocked = frozenset(cues.pop("blocked")[0].strip("()").split("|"))
    table: dict[str, list[_Phrase]] = {}
    for heading, lines in cues.items():
        kind, _, section = heading.partition(" ")
        _add(table, _Phrase(section or "stop", kind, ("",), _NOT), lines, gap)
    for heading, lines in _sections("phrases.txt"):
        names = tuple(name.strip() for name in heading.split(","))
        for kind in ("", "-", "?", "!"):
            own = [
                line.lstrip("-?! ")
                for line in lines
                if (line[0] if line[0] in "-?!" else "") == kind
            ]
            _add(table, _Phrase("finding", kind, names, _NOT), own, gap)
    return _Rules(table, blocked)


def _add(table: dict[str, list[_Phrase]], phrase: _Phrase, lines: list[str], gap: str) -> None:
    """Compile lines into one pattern for each word that they can begin with."""
    step = rf"(?: (?!{gap}\b)[^ ]+){{0,8}}? "
    grouped: dict[str, list[str]] = {}
    for line in lines:
        for word in _first_words(line):
            grouped.setdefault(word, []).append(line.replace(" ... ", step))
    for word, group in grouped.items():
        pattern = re.compile(f"(?:{'|'.join(group)})(?!\\w)")
        table.setdefault(word, []).append(phrase._replace(pattern=pattern))


def _first_words(line: str) -> set[str]:
    """Return the words that a line can begin with: two for "(a|b) c", two for "words?"."""
    head = re.match(r"\(([^()]+)\)|\S+", line)
    words = (head.group(1) or head.group()).split("|") if head else []
    return {form for word in words for form in _forms(word.split()[0])}


def _forms(word: str) -> tuple[str, ...]:
    return (word[:-1], word[:-2]) if word.endswith("?") else (word,)


def _sections(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the headings of a data file with the lines below each, without comments."""
    # For configparser a heading is a section and each line a key without a value.
    parser = ConfigParser(
        allow_no_value=True, delimiters=("\0",), inline_comment_prefixes=("#",), interpolation=None
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    for heading in parser.sections():
        yield heading, list(parser[heading])
