/** Where the findings lie that a caption names, as `captioner/evidence.py` has it, by what the graphs give. */

const STRONG = 0.5; // of the strongest share, what a region of a box has at least

/**
 * Return the regions of a caption, each {sentence, finding, words, view, box, method, hits, chance}; `measured` has the best
 * method of each finding. `activation` (regions, findings) is what each region adds to the classifier's logits.
 */
export function regionsOf(caption, { measured, find, offset, findings, grid }, mask, activation) {
  const each = grid[0] * grid[1];
  const maps = {
    attention: (_, words) => caption.attention && words.length
      ? meanOf(words.map((word) => caption.attention[word].flatMap((view) => [...view]))) : null,
    "class activation": (finding) => activation && findings.includes(finding)
      ? Array.from(mask, (_, region) => activation[region * findings.length + findings.indexOf(finding)]) : null,
  };
  const named = caption.sentences.flatMap(({ first, count }, sentence) =>
    find(caption.words.slice(first, first + count)).map(({ finding, words }) => ({ sentence, finding, words: words.map((word) => first + word) })));
  return named.flatMap(({ sentence, finding, words }) => {
    const known = measured[finding];
    const shares = known && maps[known.method](finding, words)?.map((share, region) => (mask[region] ? share : 0));
    if (!shares?.some((share) => share > 0)) return [];
    const strongest = shares.indexOf(Math.max(...shares));
    const view = Math.floor(strongest / each);
    const box = boxOf(shares.slice(view * each, (view + 1) * each), strongest % each, grid, offset);
    return [{ sentence, finding, words, view, box, ...known }];
  });
}

const meanOf = (rows) => rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);

/** Return left, top, right and bottom, in shares of the image, of the strong regions around the strongest. */
function boxOf(shares, strongest, [rows, columns], [down, right]) {
  const least = STRONG * shares[strongest];
  const seen = new Set([strongest]);
  for (const region of seen) { // a set goes on with what is added meanwhile
    const [row, column] = [Math.floor(region / columns), region % columns];
    for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, rows - 1); y++) {
      for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, columns - 1); x++) {
        if (shares[y * columns + x] >= least) seen.add(y * columns + x);
      }
    }
  }
  const side = (places, count, moved) =>
    [Math.min(...places), Math.max(...places) + 1].map((place) => Math.min(Math.max(place / count + moved, 0), 1));
  const [top, bottom] = side([...seen].map((region) => Math.floor(region / columns)), rows, down);
  const [left, end] = side([...seen].map((region) => region % columns), columns, right);
  return [left, top, end, bottom];
}
