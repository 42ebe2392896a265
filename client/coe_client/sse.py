"""Server-sent events out of bytes, as they come in pieces of any size. No I/O."""

MAX_EVENT = 64 * 2**20
"""Bytes of one event. Something without an end is no event."""


class Events:
    """Give it bytes, get the data of the events that they complete. Comments, names and ids of events are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[str]:
        """Raises ValueError for what is no UTF-8, or has no end."""
        # Lines end by CR, LF or both, and by nothing else: str.splitlines would also end one at U+2028 inside of JSON.
        text = self._rest + data
        held = b""
        if text.endswith(b"\r"):  # its LF may be still to come
            text, held = text[:-1], b"\r"
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held
        done = []
        for line in lines:
            if not line:
                if self._data:
                    done.append(b"\n".join(self._data).decode())
                self._data = []
            elif line == b"data" or line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT:
            raise ValueError(f"an event of over {MAX_EVENT} bytes")
        return done
