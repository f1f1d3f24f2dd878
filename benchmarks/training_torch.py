"""Encoder and decoders in PyTorch, as its users write them, for training.py and gpu.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Attention(nn.Module):
    """Additive attention and a GRU cell in a loop; what does not depend on it is outside."""

    def __init__(self, head: int, units: int, embedding: int) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(head, units), nn.Linear(units, units)
        self.energy, self.cell = nn.Linear(units, 1), nn.GRUCell(head + embedding, units)

    def forward(self, regions: Any, words: Any) -> Any:
        """Return what the logits are made of."""
        keys, steps = self.key(regions), []
        hidden = regions.new_zeros(len(regions), self.cell.hidden_size)
        for word in words.unbind(1):
            hidden = self.step(regions, keys, word, hidden)
            steps.append(hidden)
        return torch.stack(steps, 1)

    def step(self, regions: Any, keys: Any, word: Any, hidden: Any) -> Any:
        """Attend, then read a word."""
        energy = self.energy(torch.tanh(keys + self.query(hidden)[:, None]))
        context = torch.bmm(energy.softmax(1).transpose(1, 2), regions)[:, 0]
        return self.cell(torch.cat([context, word], 1), hidden)


class Recurrent(nn.Module):
    """PyTorch's own GRU or LSTM, which starts from the image and reads it beside every word."""

    def __init__(self, kind: Any, head: int, units: int, embedding: int) -> None:
        super().__init__()
        self.image, self.rnn = (nn.Linear(head, units), kind(units + embedding, units, batch_first=True))

    def forward(self, regions: Any, words: Any) -> Any:
        """Return what the logits are made of."""
        image = torch.relu(self.image(regions.mean(1)))
        state = torch.tanh(image)[None]
        state = (state, torch.zeros_like(state)) if isinstance(self.rnn, nn.LSTM) else state
        beside = image[:, None].expand(-1, words.shape[1], -1)
        return self.rnn(torch.cat([words, beside], 2), state)[0]


class Blocks(nn.Module):
    """PyTorch's own decoder blocks."""

    def __init__(self, units: int, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(units, 8, 4 * units, dropout, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerDecoder(layer, 3, nn.LayerNorm(units))
        self.place = nn.Embedding(60, units)

    def forward(self, regions: Any, words: Any) -> Any:
        """Return what the logits are made of."""
        time = words.shape[1]
        words = words + self.place(torch.arange(time))
        causal = nn.Transformer.generate_square_subsequent_mask(time)
        return self.blocks(words, regions, causal, tgt_is_causal=True)


class Captions(nn.Module):
    """Head, decoder, logits: logits (batch, time, words) of regions and tokens."""

    def __init__(
        self,
        decoder: str,
        regions: int,
        channels: int,
        head: int,
        units: int,
        embedding: int,
        words: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(channels, head), nn.LayerNorm(head)
        self.position = nn.Parameter(torch.randn(regions, head) * 0.05)
        self.dropout = nn.Dropout(dropout)
        kinds = {"gru": nn.GRU, "lstm": nn.LSTM}
        if decoder == "transformer":
            embedding, self.decoder = units, Blocks(units, dropout)
        elif decoder in kinds:
            self.decoder = Recurrent(kinds[decoder], head, units, embedding)
        else:
            self.decoder = Attention(head, units, embedding)
        self.embedding, self.logits = nn.Embedding(words, embedding), nn.Linear(units, words)

    def forward(self, regions: Any, tokens: Any) -> Any:
        """Return logits (batch, time, words)."""
        words = self.dropout(self.embedding(tokens))
        return self.logits(self.dropout(self.decoder(self.dropout(self.head(regions)), words)))

    def head(self, regions: Any) -> Any:
        """Project the regions."""
        return self.norm(torch.relu(self.project(regions)) + self.position)

    def greedy(self, regions: Any, time: int) -> Any:
        """Return tokens (batch, time) of the attention decoder, a word after the other."""
        regions, decoder, tokens = self.head(regions), self.decoder, []
        keys, hidden = decoder.key(regions), regions.new_zeros(len(regions), decoder.cell.hidden_size)
        token = torch.ones(len(regions), dtype=torch.long, device=regions.device)
        for _ in range(time):
            hidden = decoder.step(regions, keys, self.embedding(token), hidden)
            token = self.logits(hidden).argmax(1)
            tokens.append(token)
        return torch.stack(tokens, 1)


class Unit(nn.Module):
    """What a dense block repeats."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(128)
        self.narrow = nn.Conv2d(channels, 128, 1, bias=False)
        self.convolve = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        """Return the input with 32 channels more."""
        y = self.narrow(torch.relu(self.norm1(x)))
        return torch.cat([x, self.convolve(torch.relu(self.norm2(y)))], 1)


def densenet121(outputs: int) -> Any:
    """DenseNet121 (arXiv:1608.06993); the last three layers pool and classify."""
    channels = 64
    layers: list[Any] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    for units in (6, 12, 24, 16):
        layers += [Unit(channels + 32 * number) for number in range(units)]
        channels += 32 * units
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if units != 16:  # the last block
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))
