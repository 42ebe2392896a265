"""Files of fitted routers: read whole, replaced whole, and what is wrong with them told in one way."""

import os
import tempfile
from pathlib import Path


class RouterFileError(RuntimeError):
    """A fitted router cannot be read: missing, corrupt, of another version or for another encoder."""


def read_bytes(path: Path) -> bytes:
    """What the file holds. Raises RouterFileError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RouterFileError(f"there is no fitted router: {path} is missing; fit it first") from None
    except OSError as error:
        raise RouterFileError(f"{path} cannot be read: {error.strerror}; name the folder of a fitted router") from error


def corrupt(path: Path, why: str) -> RouterFileError:
    return RouterFileError(f"{path} is corrupt ({why}): fit the router again")


def replace_file(path: Path, data: bytes) -> None:
    """Writes `data` so that the file appears whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep it from the service's own user
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
