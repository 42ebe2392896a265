"""Reads a coe.yaml that a test gives, and what it is answered with."""

from pathlib import Path

import pytest

from orchestrator.config.load import ConfigError, load_config
from orchestrator.config.model import Config

HOME = Path("/data/coe")
ENV = {"HOME": "/home/ada"}


def read(file: Path, text: str | bytes) -> Config:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(file, HOME, ENV)


def told(file: Path, text: str | bytes) -> list[str]:
    """The problems, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    return [line.replace(f"{file.parent}/", "") for line in caught.value.problems]
