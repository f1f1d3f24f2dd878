"""Make the labeler's ``automaton.txt`` of its other data files, after each change of one of them.

    python benchmarks/labeler_rules.py

It is made of ``cues.txt``, ``findings.txt`` and ``spelling.txt`` alone, no report is looked at. Put
together when a report first needs them, the states cost more than a tenth of labelling the 3,955
reports of Open-i once. A state is all that lines can still be behind some words: for each line what
:func:`heads` says of the text that is left of it. There are some 4,000.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from xray_captioning.metrics.labels import rules
from xray_captioning.metrics.labels.rules import CONVENTIONS, MARKS, digest, sections

Thread = tuple[int, str]  # a line's number, and what can follow in it
Threads = tuple[Thread, ...]
Head = tuple[str, ...] | re.Pattern[str] | str  # words, those of a pattern, a gap or a condition


class Compiler:
    """Numbers states and groups of words, the first states first, until all have their row."""

    def __init__(self, starts: list[Threads], gaps: tuple[str, ...]):
        self.gaps, self.groups = gaps, dict[str, int]()
        self._numbers = {threads: i for i, threads in enumerate(starts)}
        self._left = list(starts)
        self.rows = [self._row(threads) for threads in self._left]  # which grows meanwhile

    def _number(self, threads: dict[Thread, None] | Threads) -> int:
        threads = tuple(threads)
        if threads not in self._numbers:
            self._numbers[threads] = len(self._left)
            self._left.append(threads)
        return self._numbers[threads]

    def _row(self, threads: Threads) -> str:
        ends: dict[int, None] = {}
        words: dict[str, dict[Thread, None]] = {}
        likes: list[tuple[re.Pattern[str], Thread]] = []
        odd: list[tuple[str, Thread]] = []  # gaps and conditions, and what is behind them
        for number, text in threads:
            if number in ends:  # of what a line can be its first choice counts
                continue
            for first, rest in heads(text):
                thread = number, rest
                if not first:
                    ends[number] = None
                    break
                if isinstance(first, str):
                    odd.append((first, thread))
                elif isinstance(first, re.Pattern):
                    likes.append((first, thread))
                else:
                    for word in first:
                        words.setdefault(word, {})[thread] = None
        patterns = list(dict.fromkeys(pattern for pattern, _ in likes))
        behind = [
            self._number(dict.fromkeys(own for pattern, own in likes if which >> patterns.index(pattern) & 1))
            for which in range(1, 1 << len(patterns))
        ]
        alike: dict[int, list[str]] = {}
        for word, own in words.items():
            like = dict.fromkeys(one for pattern, one in likes if pattern.fullmatch(word))
            alike.setdefault(self._number(like | own), []).append(word)
        groups = [self.groups.setdefault(" ".join(own), len(self.groups)) for own in alike.values()]
        parts = ends, groups, alike, [pattern.pattern for pattern in patterns], behind, self._branches(odd)
        return "\t".join(" ".join(map(str, part)) for part in parts)

    def _branches(self, odd: list[tuple[str, Thread]]) -> list[str]:
        """Return what is behind gaps, what (?=...) wants at the end of lines, other conditions."""
        by = {name: tuple(one for sign, one in odd if sign == name) for name in self.gaps}
        told = [(sign[2], (one[0], f"({sign[3:]}"), one) for sign, one in odd if sign[0] == "("]
        last = tuple(no for kind, no, one in told if kind == "=" and not one[1])
        return [
            *[f"{name}::{self._number(own)}" for name, own in by.items() if own],
            *([f"?::{self._number(last)}"] if last else []),
            *[
                f"{kind}:{self._number((no,))}:{self._number((one,))}"
                for kind, no, one in told
                if kind == "!" or one[1]
            ],
        ]


def table() -> str:
    """Return what ``automaton.txt`` has to hold: six parts with an empty line between them."""
    cues, findings, spelling = map(sections, ("cues.txt", "findings.txt", "spelling.txt"))
    known = _words(line for file in (cues, findings) for lines in file.values() for line in lines)
    known |= _words(line.partition(" = ")[2] for line in spelling["expand"]) | {*spelling["known"]}
    lists = [cues.pop(name)[0].strip("()").split("|") for name in ("blocked", "gap", "near")]
    phrases: dict[str, int] = {}
    numbers: list[int] = []
    starts: list[list[Thread]] = [[] for _ in (*CONVENTIONS, *CONVENTIONS)]
    for phrase, stops, only, line in _lines(cues, findings):
        for words, rest in heads(line):
            if not isinstance(words, tuple):
                raise ValueError(f"a line begins with a word or words in brackets: {line!r}")
            thread = len(numbers), f"({'|'.join(words)}) {rest.removeprefix(' ')}"
            numbers.append(phrases.setdefault(phrase, len(phrases)))
            for i, convention in enumerate(CONVENTIONS):
                if only in ("", convention):
                    starts[2 * i + stops].append(thread)
    made = Compiler([*map(tuple, starts)], ("...", ".."))
    groups = [" ".join(own) for own in (*lists, sorted(known))]
    return "\n\n".join(map("\n".join, ([digest()], phrases, map(str, numbers), groups, made.groups, made.rows)))


def _lines(cues: dict[str, list[str]], findings: dict[str, list[str]]) -> Iterator[tuple[str, bool, str, str]]:
    """Yield of each line what it says, whether its cue reaches nothing, its only convention and its words."""
    parts = [("", "", name, own) for name, own in findings.items()]
    for heading, own in cues.items():
        kind, _, reach = heading.rpartition(" ")
        parts.append((kind or heading, reach if kind else "stop", "", own))
    for kind, reach, names, own in parts:
        for line in own:
            only, _, text = line[1:].rpartition("> ") if line.startswith("<") else ("", "", line)
            mark = text[0] if text[1] == " " and text[0] in MARKS else ""
            yield f"{kind or MARKS[mark]}|{reach}|{names}", reach == "stop", only, text[2:] if mark else text


def _words(lines: Iterable[str]) -> set[str]:
    found = set(re.findall(r"[a-z]+\??", " ".join(lines)))
    return {form for word in found for form in forms(word)}


_BRACKET = re.compile(r"\[[^]]*\]|[()|]")
_FLAT = re.compile(r"\(([^][()]*)\)")
_TIMES = re.compile(r"([*+?]|\{(\d),(\d)\})?")
_WORD = re.compile(r"((?:\[[^]]+\]|[^ (])+)(.*)")
_PLAIN = re.compile(r"[a-z0-9]+\??|[,:;/$]")


@cache
def heads(text: str) -> list[tuple[Head, str]]:
    """Return with which words, gap or condition a text can begin, and what follows each.

    "(a|b c)( d)? e" begins with "a" and goes on with "( d)? e", or begins with "b" and goes on with
    " c( d)? e". An empty text begins with "".
    """
    text = text.removeprefix(" ")
    if not text.startswith("("):
        match = _WORD.fullmatch(text)
        if match and re.match(r"\([^ ?]", match[2]):
            raise ValueError(f"brackets are around whole words, not as in {text!r}")
        return [(_head(match[1]), match[2])] if match else [("", "")]
    choices, end = _choices(text)
    if text.startswith(("(?=", "(?!")):
        return [(text[:end], text[end:])]
    times = _TIMES.match(text, end)
    sign, least, most = times.groups("") if times else ("", "", "")
    tail = again = text[end + len(sign) :]
    if sign in ("*", "+"):
        again = f"{text[:end]}*{tail}"
    elif most > "1":
        again = f"{text[:end]}{{{max(int(least) - 1, 0)},{int(most) - 1}}}{tail}"
    found: list[tuple[Head, str]] = []
    plain: list[str] = []
    for choice in [*choices, ""]:
        word = choice.strip(" ")
        if _PLAIN.fullmatch(word) and (again[:1] in " (" or choice[-1] == " "):
            plain += forms(word)
        else:
            found += [(tuple(plain), again)] if plain else []
            found += heads(choice + again) if choice else []
            plain = []
    return found + heads(tail) if sign in ("?", "*") or least == "0" else found


def _choices(text: str) -> tuple[list[str], int]:
    """Return what stands between the "|" of the brackets that begin a text, and where they end."""
    if flat := _FLAT.match(text):
        return flat[1].split("|"), flat.end()
    cuts, depth = [0], 0
    for part in _BRACKET.finditer(text):
        depth += {"(": 1, ")": -1}.get(part[0], 0)
        if depth == (part[0] == "|"):
            cuts.append(part.start())
        if not depth:
            break
    return [text[a + 1 : b] for a, b in pairwise(cuts)], cuts[-1] + 1


@cache
def _head(text: str) -> Head:
    if _PLAIN.fullmatch(text):
        return forms(text)
    return text if set(text) == {"."} else re.compile(text)


def forms(word: str) -> tuple[str, ...]:
    """Return the words that "effusions?" stands for."""
    return (word[:-1], word[:-2]) if word.endswith("?") else (word,)


if __name__ == "__main__":
    Path(rules.__file__).with_name("automaton.txt").write_text(table(), "utf-8")
