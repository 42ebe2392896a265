"""A wall clock that processes of ours can be made to follow, while the machine's own stays as it is for all others."""

import struct
from pathlib import Path

HOOK = Path(__file__).parent / "jumping"
"""A folder for PYTHONPATH, with what makes a process follow."""


class Clock:
    """What processes with `environment` take for the time. file: is made."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(struct.pack("d", 0.0))

    def environment(self, root: Path) -> dict[str, str]:
        """root: of the repository, which is to be on PYTHONPATH too."""
        return {"PYTHONPATH": f"{HOOK}:{root}", "FAULTS_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        """The clock is that much ahead of the machine's own from now on; 0 sets it right."""
        with self._file.open("r+b") as file:  # in place: the processes have it mapped
            file.write(struct.pack("d", seconds))
