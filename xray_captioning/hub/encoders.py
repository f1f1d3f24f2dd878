"""Encoders that others have published: ``encoders/registry.json`` says what is known of each."""

from functools import cache
from importlib import resources
from typing import Any

import msgspec

from xray_captioning.hub.fetch import RemoteFile


class PublishedEncoder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one encoder, from its project's own page and code."""

    network: str
    trained_on: str
    licence: str
    page: str
    size: int  # of its images, in pixels
    resize: str  # as data.resizing has it, or in words where the network is not built here
    normalisation: str  # as data.images has it, or in words
    channels: int = 3
    outputs: tuple[str, ...] = ()  # '' for one that was not trained
    file: RemoteFile | None = None  # none where an account is needed, or no plain address is known
    folder: dict[str, Any] = {}  # what a folder of it must say, where it says so at all
    verified: str = "not here"

    def lines(self) -> list[str]:
        """Describe it, one fact per line."""
        file, outputs = self.file, [name for name in self.outputs if name]
        size = f"{file.size:,} bytes" if file and file.size else "size not published"
        digest = (file and file.sha256) or "not published"
        return [
            f"network: {self.network}, trained on {self.trained_on}",
            f"outputs: {', '.join(outputs) or 'features'}",
            f"pixels: {self.size} px, resized as {self.resize}, scaled as {self.normalisation}",
            f"licence: {self.licence}",
            f"from: {file.urls[0] if file else self.page}, {size}, SHA-256 {digest}",
            f"verified: {self.verified}",
        ]


@cache
def registry() -> dict[str, PublishedEncoder]:
    """Return all published encoders by name."""
    data = resources.files("xray_captioning").joinpath("encoders/registry.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, PublishedEncoder])
