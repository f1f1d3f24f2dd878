"""Follow the lines of ``findings.txt`` and ``cues.txt`` as a finite automaton whose input are words.

A state is all that lines can still be behind some words. :mod:`compiler` works all of them out and
writes each as one line, which is read when a report first leads there: reports need few.
"""

import re
from functools import cache
from sys import intern

END = "$"  # the word behind the last one of a statement
Gap = tuple[frozenset[str], int, int]  # words over which it never runs, the fewest, the most


class States(dict[int, "State"]):
    """The states by number. `groups` are the words that go on alike, `gaps` as lines name them."""

    def __init__(self, rows: list[str], groups: list[str], gaps: dict[str, Gap]):
        self.rows, self.gaps = rows, gaps
        self.words = cache(lambda number: tuple(map(intern, groups[int(number)].split(" "))))

    def __missing__(self, number: int) -> "State":
        state = self[number] = State(self.rows[number], self)
        return state


class State(dict[str, int]):
    """How far lines are, and by the next word the number of the state behind it."""

    __slots__ = ("_behind", "_branches", "_likes", "ends", "open", "states")

    def __init__(self, row: str, states: States):
        ends, words, likes, behind, branches = row.split("\t")
        self.ends = [*map(int, ends.split())]  # lines that are complete here
        for pair in words.split():
            group, _, number = pair.partition(":")
            self.update(dict.fromkeys(states.words(group), int(number)))
        self._likes = [*map(re.compile, likes.split())]
        self._behind = behind.split()  # by which of the patterns a word is like
        self._branches = [one.split(":") for one in branches.split()]
        self.open = bool(likes or branches)  # it may go on with words that are no keys
        self.states = states

    def after(self, word: str) -> int | None:
        """Return the state behind a word, None where no line goes on with it."""
        found = self.get(word)
        if found is None and self._likes:
            like = sum(1 << i for i, pattern in enumerate(self._likes) if pattern.fullmatch(word))
            if like:
                found = int(self._behind[like - 1])
                if len(self) < 1 << 12:  # words of patterns are without end
                    self[word] = found
        return found

    def follow(self, words: list[str], i: int) -> dict[int, int]:
        """Return which lines go on from here to an end, and before which word that is."""
        ends: dict[int, int] = {}
        state, states = self, self.states
        while True:
            for number in state.ends:
                ends[number] = i
            if state._branches:
                state._branch(words, i, ends)
            following = state.get(words[i])
            if following is None:
                if not state._likes or (following := state.after(words[i])) is None:
                    return ends
            state = states[following]
            i += 1

    def _branch(self, words: list[str], i: int, ends: dict[int, int]) -> None:
        """Note where lines end that go on behind a gap or on a condition."""
        for sign, first, then in self._branches:
            state = self.states[int(then)]
            if sign in ("=", "!"):
                if bool(self.states[int(first)].follow(words, i)) == (sign == "="):
                    ends |= state.follow(words, i)
            elif sign == "?":  # what (?=...) wants at the end of lines
                ends |= dict.fromkeys(state.follow(words, i), i)
            else:
                over, least, most = self.states.gaps[sign]
                if not state.open and state.keys().isdisjoint(words[i + least : i + most + 1]):
                    continue  # most often
                found: dict[int, int] = {}
                for k, word in enumerate(words[i : i + most + 1], i):
                    if k >= i + least and (behind := state.after(word)) is not None:
                        found = self.states[behind].follow(words, k + 1) | found  # the shortest gap counts
                    if word in over or (least and not word.isalpha()):
                        break
                ends |= found
