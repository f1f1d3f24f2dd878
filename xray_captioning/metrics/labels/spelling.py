"""One form of each word: abbreviations, British and American, missing letters and blanks.

A word in none of the data files is compared with the names of findings: one letter too many, too few,
another or two exchanged (Damerau 1964; two of those in a long word), or two words without a blank between
them. Words that are taken for findings easily, "infusion" for "effusion", are listed as known and stay.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sized
from sys import intern
from typing import TypeVar

SHORTEST, LONG = 7, 10  # letters of a word from which one error is mended, and from which two are
LONGEST = 300  # characters of the longest statement that is looked up among those already read
_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+|[,:;/()]")
_REMOVED = re.compile(r"\bxx+(?![a-z])")  # what stands for removed text
_SHORT = re.compile(r"\b[a-z]/(?:[a-z]\b|out\b|$)")
K = TypeVar("K", bound=Sized)
V = TypeVar("V")


class Kept(dict[K, V]):
    """What is found in texts: of those that repeat it is kept, of what is endless not."""

    def __init__(self, found: Callable[[K], V], longest: int = LONGEST, most: int = 1 << 15):
        self.found, self.longest, self.most = found, longest, most

    def __missing__(self, text: K) -> V:
        found = self.found(text)
        if len(text) <= self.longest:
            if len(self) >= self.most:
                self.clear()
            self[text] = found
        return found


class Spelling(Kept[str, tuple[str, ...]]):
    """Standard forms by what stands between two blanks: `fixed`, or `terms` for misspelt ones, or `known` as it is."""

    def __init__(self, fixed: Mapping[str, str], terms: Iterable[str], known: Iterable[str]):
        self.terms = frozenset(terms)
        self.known = self.terms.union(known, fixed)
        self.fixed = dict(fixed)
        self.beginnings: dict[str, list[str]] = {}
        self.ends: dict[str, list[str]] = {}
        for term in self.terms:
            self.beginnings.setdefault(term[:3], []).append(term)
            self.ends.setdefault(term[-3:], []).append(term)
        super().__init__(self._forms)

    def _forms(self, written: str) -> tuple[str, ...]:
        """Return the standard forms of what stands between two blanks, "(effusion," for example."""
        if written.isalpha() and written.isascii() and "xx" not in written:  # most often
            words = self._form(written)
        else:
            text = _SHORT.sub(lambda short: self.fixed.get(short[0], short[0]) + " ", written)
            words = " ".join(map(self._form, _WORD.findall(_REMOVED.sub("", text))))
        # Equal words are found fast; some Pythons keep for good what is interned, so not all are.
        return tuple([intern(word) if word in self.known else word for word in words.split()])

    def _form(self, word: str) -> str:
        if word in self.fixed:
            return self.fixed[word]
        if len(word) < SHORTEST or len(word) > 40 or word in self.known:
            return word
        return self._parted(word) or self._mended(word) or word

    def _mended(self, word: str) -> str | None:
        """Return the nearest term, if it is near enough and no other is as near."""
        # Two errors are looked for only where a term begins alike; one is not at both ends.
        near = [(term, 2 if len(word) >= LONG else 1) for term in self.beginnings.get(word[:3], ())]
        near += [(term, 1) for term in self.ends.get(word[-3:], ())]
        length, letters = len(word), set(word)
        # Of two errors none is in the first letter: "remarkable" is not "unremarkable".
        ranked = sorted(
            {
                (d, term)
                for term, most in near
                if -most <= len(term) - length <= most >= len(letters.difference(term))  # few are that near
                and (d := distance(word, term)) <= min(most, 2 if len(term) >= LONG else 1)
                and (d == 1 or word[0] == term[0])
            }
        )
        nearest = [term for d, term in ranked if d == ranked[0][0]]
        if len(nearest) == 2 and nearest[1] == f"{nearest[0]}s":  # "fracturs" is one or several
            nearest.pop()
        return nearest[0] if len(nearest) == 1 else None

    def _parted(self, word: str) -> str | None:
        """Return the word as two known ones of which one is a term, if it is two."""
        if word[:3] not in self.beginnings and not word.startswith(tuple(_SMALL_BEFORE)):
            return None
        for i in range(2, len(word) - 1):
            one, two = word[:i], word[i:]
            if (one in self.terms and (two in self.terms or two in _SMALL_BEHIND)) or (
                two in self.terms and one in _SMALL_BEFORE
            ):
                return f"{self.fixed.get(one, one)} {self.fixed.get(two, two)}"
        return None


_SMALL_BEFORE = {"no", "the", "of", "and", "or", "with", "without", "is", "mild", "small"}
_SMALL_BEHIND = _SMALL_BEFORE | {"are", "in", "at", "on", "size", "was", "has", "not"}


def distance(one: str, two: str) -> int:
    """Return the least number of letters to add, drop, change or exchange with the next one."""
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(two, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == two[j - 2] and one[i - 2] == b:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
