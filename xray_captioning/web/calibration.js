/** How far a caption can be trusted: confidence of its sentences and novelty of its images, as Python has them. */

export const NOT_CONFIDENT = "not confident";

/** Return {confidence, novelty} of a bundle's calibration.json and its arrays as float32, or null without. */
export function calibrationOf(values, arrays) {
  if (!values) return null;
  const lines = values.lines ?? [values];
  const channels = Math.round((Math.sqrt(1 + 4 * arrays.length) - 1) / 2); // centre and square of precision
  const [centre, precision] = [arrays.subarray(0, channels), arrays.subarray(channels)];
  return {
    /** Return the probability that a sentence is right, null for a search that it was not fitted for. */
    confidence(logProbability, search) {
      const line = lines.find((one) => Object.keys(search).every((name) => one[name] === search[name]))
        ?? lines.find((one) => !("beam_size" in one)); // of before, for any search
      return line ? 1 / (1 + Math.exp(-Math.max(line.slope * logProbability + line.intercept, -700))) : null;
    },
    /** Return the novelty of the least familiar view, of features (regions, channels) of those that are there. */
    novelty: (views) => Math.max(0, ...views.map((view) => distance(view, centre, precision))) / values.radius,
  };
}

/** Return the Mahalanobis distance of a view's mean features from those of the training images. */
function distance(regions, centre, precision) {
  const channels = centre.length;
  const away = Float64Array.from(centre, (middle, c) => {
    let sum = 0;
    for (let i = c; i < regions.length; i += channels) sum += regions[i];
    return Math.fround(Math.fround(sum / (regions.length / channels)) - middle);
  });
  let square = 0;
  for (let c = 0; c < channels; c++) for (let d = 0; d < channels; d++) square += away[c] * precision[c * channels + d] * away[d];
  return Math.sqrt(Math.max(square, 0));
}

export const isUnfamiliar = ({ novelty }) => (novelty ?? 0) > 1;

/**
 * Return what may be said of a study: its caption, and the probability of each finding or null.
 *
 * Of unfamiliar images nothing is said unless it is asked for, and then without probabilities. Sentences below the
 * least confidence are `withheld`: in a calibrated bundle all of which no confidence is known, too.
 */
export function stated(caption, probabilities, { threshold, showUnfamiliar }) {
  const strange = isUnfamiliar(caption);
  const calibrated = caption.novelty !== null;
  const unknown = calibrated && threshold > 0 ? -Infinity : Infinity;
  const silent = strange && !showUnfamiliar;
  const sentences = silent ? [] : caption.sentences.map((sentence) => {
    const withheld = ((strange ? null : sentence.confidence) ?? unknown) < threshold;
    return { ...sentence, withheld, shown: withheld ? NOT_CONFIDENT : sentence.text };
  });
  // Nothing is known of the confidence of alternatives.
  const others = silent || sentences.some((sentence) => sentence.withheld) ? [] : caption.alternatives;
  return { sentences, silent, strange, alternatives: others, probabilities: strange ? null : probabilities };
}
