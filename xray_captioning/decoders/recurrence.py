"""Recurrent layers over whole captions, whose loops keep only what is sequential. What words add to the gates is
computed before the loop, gradients of weights in single products after the loop that goes back: adding them up step by
step takes as long as all the rest. Products are in the kernel's data type, everything else in that of the inputs.

Shapes below: T time, B batch (fewer at steps that some captions do not have), U units, R regions, A width of the
attention, G = 3 U for a GRU and 4 U for an LSTM. A cell's ``forward`` takes ``hidden @ kernel + bias`` (B, G or more),
what a word adds (B, G) and the states, hidden first, and returns states and what ``backward`` needs. This takes the
gradients of those states and sums over later steps; it returns the gradients of both inputs and of the states before,
and the sums. ``sums`` returns what has their shapes (B, ...), ``gradients`` makes of them the gradients of what the
cell was made from.
"""

from typing import Any

from xray_captioning.backend import ops, scan
from xray_captioning.decoders.decoder import masked_softmax


class Words:
    """The words of captions as rows, as a recurrent layer reads them: (T, B, ...), or, if `packed`, (words, ...)
    without the padding behind captions: all first words, the longest caption's first, then all second words.
    """

    def __init__(self, tokens: Any, packed: bool = False) -> None:
        self.counts = None
        if packed:
            lengths = ops.max(ops.where(tokens > 0, ops.arange(1, ops.shape(tokens)[1] + 1), 1), axis=1)
            self.order = ops.argsort(-lengths)
            self.real = ops.arange(ops.max(lengths))[:, None] < ops.take(lengths, self.order)
            self.counts = ops.sum(ops.cast(self.real, "int32"), axis=1)
            self.time, self.study = (ops.cast(x, "int32") for x in ops.nonzero(self.real))

    def rows(self, x: Any) -> Any:
        """Return the rows of sorted x (B, T, ...)."""
        if self.counts is None:
            return ops.swapaxes(x, 0, 1)
        return ops.take(ops.reshape(x, (-1, *x.shape[2:])), self.study * ops.shape(x)[1] + self.time, axis=0)

    def sorted(self, x: Any) -> Any:
        """Return x (B, ...) in the order of captions."""
        return x if self.counts is None else ops.take(x, self.order, axis=0)

    def beside(self, x: Any) -> Any:
        """Return what stands beside each row of sorted x (B, ...)."""
        return x[None] if self.counts is None else ops.take(x, self.study, axis=0)

    def spread(self, rows: Any) -> Any:
        """Return (T, B, ...) of rows, zero where there is none."""
        if self.counts is None:
            return rows
        return ops.scatter(ops.stack([self.time, self.study], axis=1), rows, (*ops.shape(self.real), rows.shape[-1]))


def recurrence(cell: Any, words: Words, inputs: Any, states: list[Any], kernel: Any, bias: Any, *fixed: Any) -> Any:
    """Return the hidden states, rows of U, of inputs, rows of G, and first states (B, U); `fixed` makes the cell."""
    count = len(states)

    def run(inputs: Any, kernel: Any, bias: Any, *rest: Any) -> Any:
        bound, first = cell(*rest[count:]), list(rest[:count])

        def forward(before: Any, x: Any) -> Any:
            after, kept = bound.forward(multiply(before[0], kernel) + bias, x[0], before)
            return after, [after[0], *before, *kept]

        hidden, *steps = scan(forward, first, [inputs], words.counts)[1]

        def gradient(*args: Any, upstream: Any = None) -> Any:
            # PyTorch is given the arguments, too.
            upstream, turned = args[0] if upstream is None else upstream, ops.transpose(kernel)

            def back(carry: Any, given: Any) -> Any:
                (d_hidden, *others), sums = carry
                d, step = [d_hidden + given[0], *others], (given[1 : count + 1], given[count + 1 :])
                d_product, d_x, d, sums = bound.backward(d, *step, sums)
                d[0] = d[0] + multiply(d_product, turned)
                return [d, sums], [d_product, d_x]

            start = [[ops.zeros_like(x) for x in group] for group in (first, bound.sums())]
            (d_first, sums), (d_product, d_x) = scan(back, start, [upstream, *steps], words.counts, reverse=True)
            flat, before = _flat(d_product), _flat(steps[0])
            d_kernel = multiply(ops.transpose(before), flat, kernel.dtype)
            d_bias = ops.matmul(ops.ones_like(before[:, 0])[None], flat)[0]  # faster than a sum
            return d_x, d_kernel, d_bias, *d_first, *bound.gradients(sums, words, steps[count:], d_x)

        return hidden, gradient

    # A cast makes a tensor of a variable, which may not be watched in there.
    given = [ops.cast(x, x.dtype) for x in (inputs, kernel, bias, *states, *fixed)]
    return ops.custom_gradient(run)(*given)


def multiply(x: Any, y: Any, dtype: Any = None) -> Any:
    """Return the product in the data type of a kernel y, written in that of x."""
    dtype = dtype or y.dtype
    return ops.cast(ops.matmul(ops.cast(x, dtype), ops.cast(y, dtype)), x.dtype)


def _flat(rows: Any) -> Any:
    return ops.reshape(rows, (-1, rows.shape[-1]))


class Gru:
    """A GRU that resets after the product, as Keras' own."""

    def forward(self, product: Any, x: Any, before: Any) -> Any:
        units = before[0].shape[-1]
        gates, past = ops.sigmoid(product[:, : 2 * units] + x[:, : 2 * units]), product[:, 2 * units : 3 * units]
        new = ops.tanh(x[:, 2 * units :] + gates[:, units:] * past)
        return [new + gates[:, :units] * (before[0] - new)], [gates, new, past]

    def backward(self, d: Any, before: Any, kept: Any, sums: Any) -> Any:
        gates, new, past = kept
        update, reset = ops.split(gates, 2, axis=-1)
        d_before = d[0] * update
        d_new = (d[0] - d_before) * (1 - new * new)
        d_gates = ops.concatenate([d[0] * (before[0] - new), d_new * past], axis=-1)
        d_gates = d_gates * gates * (1 - gates)
        d_product = ops.concatenate([d_gates, d_new * reset], axis=-1)
        return d_product, ops.concatenate([d_gates, d_new], axis=-1), [d_before], sums

    def sums(self) -> Any:
        return []

    def gradients(self, sums: Any, words: Words, kept: Any, d_x: Any) -> Any:
        return []


class AttentiveGru(Gru):
    """That GRU, to which the mean of regions, weighted with `energy` (A, 1), V, is added, too; the query follows the
    gates in the product. Of regions are `keys` (B, R, A), `mask` (B, R), and few as what they add to the gates, (B, R,
    G), many as they are, (B, R, C), with the `kernel` (C, G) that makes this of their mean.
    """

    def __init__(self, keys: Any, regions: Any, mask: Any, energy: Any, kernel: Any = None) -> None:
        self.keys, self.regions, self.mask, self.energy = keys, regions, mask, energy
        self.kernel = kernel

    def forward(self, product: Any, x: Any, before: Any) -> Any:
        studies, query = ops.shape(x)[0], product[:, x.shape[-1] :]
        weights = masked_softmax(ops.matmul(self._inner(query), self.energy)[..., 0], self.mask[:studies] > 0.5)
        context = ops.matmul(weights[:, None], self.regions[:studies])[:, 0]
        context = context if self.kernel is None else multiply(context, self.kernel)
        states, kept = super().forward(product, x + context, before)
        return states, [*kept, query, weights]

    def _inner(self, query: Any) -> Any:
        return ops.tanh(self.keys[: ops.shape(query)[0]] + query[:, None])

    def backward(self, d: Any, before: Any, kept: Any, sums: Any) -> Any:
        *kept, query, weights = kept
        d_product, d_x, d_before, _ = super().backward(d, before, kept, sums)
        regions, inner = self.regions[: ops.shape(query)[0]], self._inner(query)
        d_weights = ops.matmul(regions, self._of_mean(d_x)[..., None])[..., 0] * weights
        d_energy = d_weights - weights * ops.sum(d_weights, axis=-1, keepdims=True)
        # The gradients of a softmax add up to nothing: of 1 - inner ** 2 the 1 does not count.
        part = d_energy[..., None] * (inner * inner)
        d_query = -ops.sum(part, axis=1) * self.energy[:, 0]
        sums = [a + b for a, b in zip(sums, (part, d_energy, ops.matmul(d_energy[:, None], inner)[:, 0]))]
        return ops.concatenate([d_product, d_query], axis=-1), d_x, d_before, sums

    def _of_mean(self, d_x: Any) -> Any:
        """Return the gradients of the mean of the regions."""
        return d_x if self.kernel is None else multiply(d_x, ops.transpose(self.kernel))

    def sums(self) -> Any:
        return [self.keys, self.mask, self.keys[:, 0]]

    def gradients(self, sums: Any, words: Words, kept: Any, d_x: Any) -> Any:
        parts, d_energies, d_v = sums
        d_keys = (d_energies[..., None] - parts) * self.energy[:, 0]
        weights, d_x = ops.transpose(words.spread(kept[-1]), (1, 2, 0)), words.spread(d_x)
        d_x = ops.swapaxes(d_x, 0, 1)
        d_regions = ops.matmul(weights, self._of_mean(d_x))
        made = d_keys, d_regions, ops.zeros_like(self.mask), ops.sum(d_v, axis=0)[:, None]
        if self.kernel is None:
            return made
        means = _flat(ops.matmul(ops.swapaxes(weights, 1, 2), self.regions))
        d_kernel = multiply(ops.transpose(means), _flat(d_x), self.kernel.dtype)
        return *made, ops.cast(d_kernel, self.kernel.dtype)  # joined to that of words


class Lstm(Gru):
    """An LSTM."""

    def forward(self, product: Any, x: Any, before: Any) -> Any:
        enter, keep, new, out = ops.split(product + x, 4, axis=-1)
        enter, keep, out, new = *map(ops.sigmoid, (enter, keep, out)), ops.tanh(new)
        cell = keep * before[1] + enter * new
        seen = ops.tanh(cell)
        return [out * seen, cell], [enter, keep, new, out, seen]

    def backward(self, d: Any, before: Any, kept: Any, sums: Any) -> Any:
        enter, keep, new, out, seen = kept
        d_cell = d[1] + d[0] * out * (1 - seen * seen)
        d_enter, d_keep = d_cell * new * enter * (1 - enter), d_cell * before[1] * keep * (1 - keep)
        d_new, d_out = d_cell * enter * (1 - new * new), d[0] * seen * out * (1 - out)
        d_x = ops.concatenate([d_enter, d_keep, d_new, d_out], axis=-1)
        return d_x, d_x, [ops.zeros_like(seen), d_cell * keep], sums
