"""What the API allows and how long it waits."""

import dataclasses
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from xray_captioning.config import parse_assignment
from xray_captioning.errors import ConfigError

LONGEST = 10  # times as long as wide; radiographs of a whole leg have three
TOKEN_VARIABLE = "XRAY_CAPTIONING_TOKEN"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")  # RFC 6750, section 2.1


@dataclass(frozen=True)
class Settings:
    """Limits of the API, which hold whatever a client sends; docs/serving.md explains them. What is no positive
    whole number, limits that contradict each other, and a token that RFC 6750 does not allow are a ConfigError.
    """

    body_megabytes: int = 32  # MiB of a request's body
    megapixels: int = 32  # of an image; the largest radiographs have about 20
    studies: int = 8  # of a request
    beam: int = 5  # largest beam size
    seconds: int = 30  # that a request may take, and that a client may take to send it
    batch: int = 16  # studies that the model sees at a time; 1 is no batching
    milliseconds: int = 4  # that a study waits for others to be batched with
    queue: int = 64  # studies in work, those that wait included; one more is answered with 503
    connections: int = 512
    upload_megabytes: int = 512  # MiB of all bodies held at a time
    token: str | None = dataclasses.field(default=None, repr=False)  # that a client must show

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "token" and (type(value) is not int or not 1 <= value < 2**31):
                raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least 1")
        for small, large in (("studies", "queue"), ("batch", "queue"), ("body_megabytes", "upload_megabytes")):
            if (least := getattr(self, small)) > (most := getattr(self, large)):
                raise ConfigError(f"{small} is {least}, which is more than {large}, {most}; change one of them")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ConfigError("the token cannot be used; take 16 to 512 characters as openssl rand -hex 32 prints")

    @property
    def body_bytes(self) -> int:
        """Largest body of a request."""
        return self.body_megabytes << 20

    def replace(self, assignments: Iterable[str]) -> Self:
        """Return a copy with limits changed, such as by ``["batch=1", "queue=32"]``."""
        changes = dict(parse_assignment(text) for text in assignments)
        names = [field.name for field in dataclasses.fields(self) if field.name != "token"]
        if unknown := [name for name in changes if name not in names]:
            raise ConfigError(f"unknown limit {unknown[0]!r}; limits are {', '.join(names)}")
        return dataclasses.replace(self, **changes)


def is_protected(path: str) -> bool:
    """Return whether a request for a path must show the token, where there is one."""
    return path.startswith("/v1/") or path == "/metrics"


def find_token(file: Path | None) -> str | None:
    """Return the token a file holds, or else the environment variable; a binary file is refused."""
    try:
        return os.environ.get(TOKEN_VARIABLE) or None if file is None else file.read_text("utf-8").strip()
    except ValueError as error:
        raise ConfigError(f"{file}: is no text; write the token and nothing else") from error
