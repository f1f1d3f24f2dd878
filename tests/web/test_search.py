"""The page's searches and its words are Python's."""

import numpy as np
import pytest

from tests.web.node import node
from xray_captioning.search import Rules, beam_search, greedy_search
from xray_captioning.text.cleaning import prettify
from xray_captioning.text.tokenizer import _BYTES, END_OF_TEXT, BytePairTokenizer, Tokenizer

VOCABULARY = 7
# A toy whose logits depend on the step and the last token; its state is the number of steps and, of each beam, the
# sum of all tokens, which shows whether beams follow each other.
SEARCH = """
const { search } = await load("search.js");
const found = [];
for (const { table, rules, beams, penalty } of given) {
  const model = {
    start: async () => ({ time: 0, sums: [0] }),
    repeated: ({ time, sums }, beams) => ({ time, sums: Array.from({ length: beams }, () => sums[0]) }),
    reordered: ({ time, sums }, rows) => ({ time, sums: rows.map((row) => sums[row]) }),
    step: async (tokens, { time, sums }) => {
      const after = sums.map((sum, i) => sum + tokens[i]);
      const logits = tokens.map((token, i) => Float32Array.from(table[time][(token + after[i]) % table[0].length]));
      return { logits, state: { time: time + 1, sums: after }, attention: after.map((sum) => Float32Array.of(sum)) };
    },
  };
  const { captions, attention } = await search(model, rules, beams, penalty);
  found.push({
    tokens: captions.map((one) => [...one.tokens]), totals: captions.map((one) => one.total),
    gains: captions.map((one) => [...one.gains]), attention: attention.map((row) => row[0]),
  });
}
return found;
"""


def expected(table, rules, beams, penalty):
    def step(token, state):
        sums = state["sums"] + token
        logits = table[state["time"][0], (token + sums) % VOCABULARY]
        return logits, {"time": state["time"] + 1, "sums": sums, "attention": sums[:, None].astype("float32")}

    state = {"time": np.zeros(1, int), "sums": np.zeros(1, int), "attention": np.zeros((1, 1), "float32")}
    real = np.ones(1, bool)
    if beams == 1:
        return greedy_search(state, step, real, rules)
    return beam_search(state, step, real, rules, beams, penalty)


def test_searches_find_what_python_finds(tmp_path):
    rng, jobs, results = np.random.default_rng(0), [], []
    for number in range(60):
        length, beams = int(rng.integers(2, 9)), number % 5 + 1
        table = (4 * rng.standard_normal((length, VOCABULARY, VOCABULARY))).astype("float32")
        banned, ngram, penalty = ([0, 2, 1], [])[number % 2], int(rng.integers(0, 4)), float(number % 3) / 2
        rules = {"start": 2, "end": 3, "length": length, "banned": banned, "noRepeat": ngram}
        jobs.append({"table": table.tolist(), "rules": rules, "beams": beams, "penalty": penalty})
        results.append(expected(table, Rules(2, 3, length, tuple(banned), ngram), beams, penalty))
    for job, found, other in zip(jobs, node(tmp_path, SEARCH, jobs), results, strict=True):
        assert found["tokens"] == other.tokens[0].tolist(), job
        np.testing.assert_allclose(found["totals"], other.log_probabilities[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["gains"], other.gains[0], rtol=1e-5, atol=1e-5)
        words = (other.tokens[0, 0] > 0).sum()
        assert found["attention"][:words] == other.attention[0, :words, 0].tolist()


def tokenizers():
    text = "the heart is normal . no pleural effusion , 5.5 mm ."
    yield Tokenizer.fit([text])
    words = ("<unk>", "startseq", "endseq", *dict.fromkeys(text.split()))
    yield Tokenizer(words, (None, "startseq", "endseq"))
    yield BytePairTokenizer((*_BYTES, "\u0120n", "ormal", "he", "art.", END_OF_TEXT), ())


@pytest.mark.parametrize("tokenizer", list(tokenizers()), ids=["own", "of Keras", "byte pairs"])
def test_words_are_those_of_the_tokenizer(tmp_path, tokenizer):
    rng = np.random.default_rng(0)
    rows = [[tokenizer.start_id, *rng.integers(0, tokenizer.vocabulary_size, 12).tolist()] for _ in range(40)]
    code = """
const { tokenizerOf } = await load("words.js");
const tokenizer = tokenizerOf(given.content);
const { start, end, unknown } = tokenizer;
return [[start, end, unknown], given.rows.map((row) => tokenizer.words(row).map(({ word, places }) => [word, places]))];
"""
    marks, found = node(tmp_path, code, {"content": tokenizer._content(), "rows": rows})
    assert marks == [tokenizer.start_id, tokenizer.end_id, tokenizer.unknown_id]
    for row, words in zip(rows, found, strict=True):
        assert [tuple(pair) for pair in words] == tokenizer.words_in(row)


def test_texts_are_displayed_as_python_displays_them(tmp_path):
    texts = ["no effusion .", "5.5 mm nodule , left . 90 % sure .", ". . .", "heart", " a .. b . ", "\u00e9dema ."]
    found = node(tmp_path, 'const { prettified } = await load("words.js"); return given.map(prettified);', texts)
    assert found == list(map(prettify, texts))
