"""Follow the lines of ``findings.txt`` and ``cues.txt`` as a finite automaton whose input are words.

A state is all that lines can still be behind some words. ``benchmarks/labeler_rules.py`` writes all
of them to ``automaton.txt``, one a line, which is read when a report first leads there.
"""

import re
from functools import cache
from sys import intern
from typing import Any

END = "$"  # the word behind the last one of a statement
Gap = tuple[frozenset[str], int, int]  # words over which it never runs, the fewest, the most


class States(dict[int, "State"]):
    """The states by number. `groups` are words that lead on alike, `gaps` as the lines name them."""

    def __init__(self, rows: list[str], groups: list[str], gaps: dict[str, Gap]):
        self.rows, self.gaps = rows, gaps
        self.words = cache(lambda group: tuple(map(intern, groups[int(group)].split(" "))))

    def __missing__(self, number: int) -> "State":
        state = self[number] = State(self.rows[number], self)  # whole before another thread sees it
        return state


class State(dict[str, Any]):
    """How far lines are, and by the next word the state behind it: its number until it is met."""

    __slots__ = ("_behind", "_branches", "_likes", "_states", "ends", "open")

    def __init__(self, row: str, states: States):
        self._states = states
        ends, groups, numbers, likes, behind, branches = row.split("\t")
        self.ends = [*map(int, ends.split())]  # lines that are complete here
        for group, number in zip(groups.split(), map(int, numbers.split())):
            self.update(dict.fromkeys(states.words(group), number))
        self._likes = [*map(re.compile, likes.split())] if likes else []
        self._behind = behind.split()  # by which of the patterns a word is like
        self._branches = [self._branch_of(*one.split(":")) for one in branches.split()] if branches else []
        self.open = bool(likes or branches)  # it may go on with words that are no keys

    def _branch_of(self, sign: str, first: str, then: str) -> tuple[str, Any, "State"]:
        gap = self._states.gaps.get(sign)
        return sign, gap or (first and self._states[int(first)]), self._states[int(then)]

    def after(self, word: str) -> "State | None":
        """Return the state behind a word, None where no line goes on with it."""
        found = self.get(word)
        if found is None:
            like = sum([1 << i for i, pattern in enumerate(self._likes) if pattern.fullmatch(word)])
            if not like:
                return None
            found = int(self._behind[like - 1])
            if len(self) >= 1 << 9:  # words of patterns are without end
                return self._states[found]
        if not isinstance(found, State):
            found = self[word] = self._states[found]
        return found

    def follow(self, words: list[str], i: int) -> dict[int, int]:
        """Return which lines go on from here to an end, and before which word that is."""
        ends: dict[int, int] = {}
        state: State | None = self
        while state is not None:
            for number in state.ends:
                ends[number] = i
            if state._branches:
                state._branch(words, i, ends)
            following = state.get(words[i])
            if following is None and not state._likes:
                break
            state = following if isinstance(following, State) else state.after(words[i])
            i += 1
        return ends

    def _branch(self, words: list[str], i: int, ends: dict[int, int]) -> None:
        """Note where lines end that go on behind a gap or on a condition."""
        for sign, first, state in self._branches:
            if sign[0] == ".":
                over, least, most = first
                if not state.open and state.keys().isdisjoint(words[i + least : i + most + 1]):
                    continue  # most often
                found: dict[int, int] = {}
                for k, word in enumerate(words[i : i + most + 1], i):
                    then = state.after(word) if k >= i + least and (word in state or state.open) else None
                    if then is not None:
                        found = then.follow(words, k + 1) | found  # the shortest gap counts
                    if word in over or (least and not word.isalpha()):
                        break
                ends |= found
            elif sign == "?":  # what (?=...) wants at the end of lines
                ends |= dict.fromkeys(state.follow(words, i), i)
            elif bool(first.follow(words, i)) == (sign == "="):
                ends |= state.follow(words, i)
