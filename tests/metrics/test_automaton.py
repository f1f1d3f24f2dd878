"""Lines are read as regular expressions read them; those of the data files are understood."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import labeler_rules
from benchmarks.labeler_rules import Compiler, heads, table
from xray_captioning.errors import DataError
from xray_captioning.metrics.labels import rules
from xray_captioning.metrics.labels.rules import END, States, sections

GAPS = {"...": (frozenset(("x", ";", END)), 0, 3), "..": (frozenset(("x",)), 1, 2)}
AS_PATTERNS = {" ... ": r"(?: (?!x\b)[^ ;]+){0,3}? ", " .. ": r" (?:(?!x\b)[a-z]+ ){1,2}?"}
LINES = (
    "a",
    "as? b",
    "(a|b c)( d)? e",
    "a (b |c |b c )*(d|e)",
    "a (b |c )+d",
    "a (b ){1,3}(, )?c",
    "a ((b|c) (d )?)?(e|d)",
    "a ([a-z]+ ){0,2}(d|e)",
    "a [bc] 1[2-4]",
    "a ... (b|c d)",
    "a b ... (d|e)",
    "(a|b) .. c",
    "a(?= [,;]|$| (b|c)(?! d))",
    "a b(?! c|( d)? e)",
    "a(?! b)( b| c)? (c|d)",
    "a b(?= c| (d|e))( c)?(?! e)",
    "(,|a)(?= .. (b|c)(?! d))",
)
WORDS = st.lists(st.sampled_from([*"abcdex,;", "as", "12", "13", "15"]), min_size=1, max_size=9)


def automaton(*lines):
    """The state before lines."""
    made = Compiler([tuple(enumerate(lines))], tuple(GAPS))
    return States(made.rows, list(made.groups), GAPS)[0]


def end_as_pattern(line, words):
    """How many words a regular expression takes, None where it does not match."""
    for gap, pattern in AS_PATTERNS.items():
        line = line.replace(gap, pattern)
    match = re.match(rf"(?:{line})(?!\w)", " ".join(words))
    return len(match[0].split(" ")) if match else None


@pytest.mark.parametrize("line", LINES)
@given(words=WORDS)
@settings(max_examples=60, deadline=None)
def test_a_line_is_read_as_a_regular_expression(line, words):
    ends = automaton(line).follow([*words, END, ""], 0)
    assert ends.get(0) == end_as_pattern(line, words)


def test_of_several_lines_each_has_its_own_end():
    words = ["a", "b", "c", END, ""]
    assert automaton("a b", "a", "a ... c", "a c").follow(words, 0) == {0: 2, 1: 1, 2: 3}


def test_the_file_is_what_the_rules_make():
    assert rules.text_of("automaton.txt") == table(), "run python benchmarks/labeler_rules.py"


@pytest.mark.parametrize("name", ["cues.txt", "findings.txt", "spelling.txt"])
def test_a_file_of_other_rules_is_refused(monkeypatch, name):
    texts = {name: rules.text_of(name) + "\nnot here\n"}
    text_of = rules.text_of
    monkeypatch.setattr(rules, "text_of", lambda asked: texts.get(asked) or text_of(asked))
    with pytest.raises(DataError, match="not of these rules; run python benchmarks/labeler_rules"):
        rules._read.__wrapped__()


def test_words_of_patterns_are_not_kept_without_end():
    state = automaton("a [a-z]+ b").after("a")
    for number in range(2_000):
        word = "".join(chr(97 + number // 26**i % 26) for i in range(3))
        assert state.follow([word, "b", END, ""], 0) == {0: 2}
    assert len(state) < 1_000


def test_every_line_of_the_data_files_is_understood():
    lines = [line for name in ("cues.txt", "findings.txt") for own in sections(name).values() for line in own]
    texts = {re.sub(r"^(<\w+> )?([-?~=!] )?", "", line) for line in lines}
    left, seen = list(texts), set()
    while left:
        text = left.pop()
        seen.add(text)
        for first, rest in heads(text):
            if isinstance(first, str):  # a gap, a condition, or the end
                assert first in ("", "...", "..") or first[:3] in ("(?=", "(?!"), text
            elif isinstance(first, tuple):
                assert all(re.fullmatch(r"[a-z0-9]+|[,:;/$]", word) for word in first), text
            left += {rest} - seen
    assert len(seen) > len(texts)


def test_a_line_that_begins_with_no_word_is_refused(monkeypatch):
    changed = {"findings.txt": {"Edema": ["[a-z]+ swelling"]}}
    monkeypatch.setattr(labeler_rules, "sections", lambda name: sections(name) | changed.get(name, {}))
    with pytest.raises(ValueError, match="begins with a word"):
        table()


def test_brackets_within_a_word_are_refused():
    with pytest.raises(ValueError, match="whole words"):
        automaton("a shunt(ing)? b").follow(["a", "shunt", END, ""], 0)


def test_endless_repetition_takes_no_deep_recursion():
    words = ["a", *["1"] * 5_000, "b", END, ""]
    assert automaton("a ([0-9]+ |c )*b").follow(words, 0) == {0: 5_002}
