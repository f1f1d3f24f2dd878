"""Read the lines of ``findings.txt`` and ``cues.txt`` as a finite automaton whose input are words.

A state is all that lines can still be behind some words. It is put together when it is first
reached, from what :func:`heads` says of the text that is left of each line: reports need few.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from sys import intern
from typing import Any

END = "$"  # the word behind the last one of a statement
Thread = tuple[int, str]  # a line's number, and what can follow in it
Threads = tuple[Thread, ...]
Head = tuple[str, ...] | re.Pattern[str] | str  # words, those of a pattern, a gap or a condition
Gap = tuple[frozenset[str], int, int]  # words over which it never runs, the fewest, the most


class State(dict[str, Any]):
    """How far lines are, and by the next word the state behind it: its threads until it is met."""

    __slots__ = ("_branches", "_gaps", "_likes", "_state", "ends", "open")

    def __init__(self, threads: Threads, gaps: dict[str, Gap], state: Callable[[Threads], "State"]):
        self._gaps, self._state = gaps, state
        self.ends: list[int] = []  # lines that are complete here
        self._likes: list[tuple[re.Pattern[str], Thread]] = []
        odd: list[tuple[str, Thread]] = []  # gaps and conditions, and what is behind them
        for number, text in threads:
            if number in self.ends:  # of what a line can be its first choice counts
                continue
            for first, rest in heads(text):
                thread = number, rest
                if not first:
                    self.ends.append(number)
                    break
                if isinstance(first, str):
                    odd.append((first, thread))
                elif isinstance(first, re.Pattern):
                    self._likes.append((first, thread))
                else:
                    alone = (thread,)
                    for word in first:
                        self[word] = (*self[word], thread) if word in self else alone
        self._branches: Any = self._branched(odd) if odd else ()
        self.open = bool(odd or self._likes)  # it may go on with words that are no keys

    def after(self, word: str) -> "State | None":
        """Return the state behind a word, None where no line goes on with it."""
        found = self.get(word, ())
        if isinstance(found, State):
            return found
        threads = [thread for first, thread in self._likes if first.fullmatch(word)]
        if not (threads or found):
            return None
        state = self._state(tuple(dict.fromkeys([*threads, *found])))
        if found or len(self) < 1 << 12:  # words of patterns are without end
            self[word] = state
        return state

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
        behind, ahead, others = self._branches
        for (over, least, most), state in behind:
            if not state.open and state.keys().isdisjoint(words[i + least : i + most + 1]):
                continue  # most often
            found: dict[int, int] = {}
            for k, word in enumerate(words[i : i + most + 1], i):
                if k >= i + least and (then := state.after(word)) is not None:
                    found = then.follow(words, k + 1) | found  # the shortest gap counts
                if word in over or (least and not word.isalpha()):
                    break
            ends |= found
        if ahead or ahead.open:
            ends |= dict.fromkeys(ahead.follow(words, i), i)
        for condition, wanted, state in others:
            if bool(condition.follow(words, i)) == wanted:
                ends |= state.follow(words, i)

    def _branched(self, odd: list[tuple[str, Thread]]) -> tuple[list[Any], "State", list[Any]]:
        """Return what is behind gaps, what (?=...) wants at the end of lines, other conditions."""
        by = {name: tuple(one for sign, one in odd if sign == name) for name in self._gaps}
        told = [(sign[2], (one[0], f"({sign[3:]}"), one) for sign, one in odd if sign[0] == "("]
        return (
            [(gap, self._state(by[name])) for name, gap in self._gaps.items() if by[name]],
            self._state(tuple(no for kind, no, one in told if kind == "=" and not one[1])),
            [(self._state((no,)), kind == "=", self._state((one,))) for kind, no, one in told if kind == "!" or one[1]],
        )


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
    return (intern(word[:-1]), intern(word[:-2])) if word.endswith("?") else (intern(word),)
