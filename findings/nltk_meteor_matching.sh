#!/usr/bin/env bash
# NLTK 3.10.4, meteor_score: which words it matches with which.
#
# Guess: the beginning of a reference, word for word, is one run of matched words, so the penalty for order is almost
# nothing (METEOR takes, of all matchings with as many words, the one with the fewest runs; NLTK's docstring says "the
# match which has the least number of crossing is chosen"). Synonyms of what is left are looked up in WordNet.
# What happened: every word is matched with its last place in the reference that is still free. The first of three
# sentences is matched in three pieces and gets the full penalty, one half, as if its words were scrambled. And what is
# looked up is not the word but its Porter stem, "larg" for "large", which WordNet does not have; stems of the reference
# are compared with whole synonyms, too. So most synonyms are never found.
# Output seen: the first sentence .1786 (by hand, in one run: .3505), the last one .3505, the first one's words in
#              another order .1786 as well; large for big: asked for "larg", .7361 as a wrong word (matched: .9922);
#              chest for thorax, whose stems are words: .9922.
# Date: 2026-11-29.
#
# Why it matters here: reports repeat "no" and "." in every sentence. A caption that ends early loses half its METEOR,
# one that begins late none; Hugging Face's `evaluate` calls this function, and papers print what it returns.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet nltk==3.10.4
env/bin/python - <<'PY'
from types import SimpleNamespace

import nltk
from nltk.translate.meteor_score import align_words, meteor_score

print("nltk", nltk.__version__)
SYNONYMS = {"large": "big", "big": "large", "chest": "thorax", "thorax": "chest"}


class WordNet:  # in its place, for it would have to be downloaded: a synonym of each of four words
    asked = []

    def synsets(self, word):
        self.asked.append(word)
        lemma = SimpleNamespace(name=lambda: SYNONYMS[word])
        return [SimpleNamespace(lemmas=lambda: [lemma])] if word in SYNONYMS else []


def score(text, reference):
    WordNet.asked = []
    said, right = text.split(), reference.split()
    places = [place for _, place in align_words(said, right, wordnet=WordNet())[0]]
    found = round(meteor_score([right], said, wordnet=WordNet()), 4)
    print(f"{text!r}: {found}, matched with words {places}; looked up {sorted(set(WordNet.asked))}")
    return found, places, set(WordNet.asked)


def by_hand(matches, said, right, chunks):
    precision, recall = matches / said, matches / right
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    return round(mean * (1 - 0.5 * (chunks / matches) ** 3), 4)


report = "no effusion . no edema . no pneumothorax ."
assert (by_hand(3, 3, 9, 1), by_hand(3, 3, 9, 3)) == (0.3505, 0.1786)
assert score("no effusion .", report)[:2] == (0.1786, [6, 1, 8]), "the beginning is matched in one run now"
assert score("no pneumothorax .", report)[:2] == (0.3505, [6, 7, 8])
assert score("effusion no .", report)[0] == 0.1786

assert (by_hand(4, 4, 4, 1), by_hand(3, 4, 4, 1)) == (0.9922, 0.7361)
assert score("the heart is large", "the heart is big") == (0.7361, [0, 1, 2], {"larg"}), "words are looked up now"
assert score("the heart is big", "the heart is large")[0] == 0.7361
assert score("see the big chest", "see the big thorax")[0] == 0.9922
PY
