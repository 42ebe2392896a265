"""API keys: made here, shown once, stored as SHA-256.

A key has 256 random bits, so a plain hash is as good as a slow one, and looking a digest up leaks nothing about the key
through time. Verified keys are remembered for FRESH_S, and for STALE_S while Redis is away, so that a restart of Redis
does not lock out those who were just served.

`InvalidKey`   the key is not known
`UnknownKey`   no stored key, or more than one, goes by the id, prefix or name that was given
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from orchestrator.store import Store, StoreUnavailable

FRESH_S = 60.0
STALE_S = 3600.0
ASK_AGAIN_S = 5.0
"""After a failure of Redis, remembered keys are served for so long without asking it again: a server that swallows
packets would otherwise add its time-out to every request."""

KEY_FORM = re.compile(r"coe-[A-Za-z0-9_-]{43}")


class InvalidKey(PermissionError):
    """The key is not known, or was revoked."""


class UnknownKey(LookupError):
    """No stored key, or more than one, goes by the id, prefix or name that was given."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of a key. id: first 12 hex digits of its digest; prefix: its first characters, for people to
    recognise it by; created: Unix time in seconds."""

    id: str
    name: str
    prefix: str
    created: float


@dataclass(frozen=True, slots=True)
class _Seen:
    info: KeyInfo
    at: float


class Keys:
    """The keys in a store. Every method but the constructor raises StoreUnavailable if the store is away."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self.store = store
        self._now = now
        self._seen: dict[str, _Seen] = {}  # only keys that were verified: as many as there are keys
        self._quiet_until = 0.0

    async def create(self, name: str) -> tuple[str, KeyInfo]:
        """A new key and what is stored of it. The key itself can never be shown again."""
        key = "coe-" + secrets.token_urlsafe(32)
        return key, await self._put(key, name)

    async def ensure(self, key: str, name: str = "first") -> KeyInfo:
        """Makes `key` valid, whoever made it up. Raises ValueError if it cannot stand in a header."""
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError("the API key must be of printable ASCII characters without spaces, and not empty")
        known = await self.store.get_key(digest(key))
        return KeyInfo(**known) if known else await self._put(key, name)

    async def verify(self, key: str) -> KeyInfo:
        """What is known of a valid key. Raises InvalidKey, and StoreUnavailable if it cannot be told."""
        hashed, now = digest(key), self._now()
        seen = self._seen.get(hashed)
        age = now - seen.at if seen else float("inf")
        if seen and (age < FRESH_S or (age < STALE_S and now < self._quiet_until)):
            return seen.info
        try:
            known = await self.store.get_key(hashed)
        except StoreUnavailable as error:
            self._quiet_until = now + ASK_AGAIN_S
            if seen and age < STALE_S:
                return seen.info
            raise StoreUnavailable(f"key store unreachable: {error}") from error
        if known is None:
            self._seen.pop(hashed, None)
            raise InvalidKey("the API key is not known here, or was revoked")
        info = KeyInfo(**known)
        self._seen[hashed] = _Seen(info, now)
        return info

    async def list(self) -> list[KeyInfo]:
        """All keys, oldest first."""
        return sorted((KeyInfo(**info) for info in (await self.store.all_keys()).values()), key=lambda key: key.created)

    async def revoke(self, which: str) -> KeyInfo:
        """Removes the key of this id, prefix or name; other processes notice within FRESH_S. Raises UnknownKey."""
        stored = {hashed: KeyInfo(**info) for hashed, info in (await self.store.all_keys()).items()}
        found = {hashed: info for hashed, info in stored.items() if which in (info.id, info.prefix, info.name)}
        if len(found) != 1:
            known = ", ".join(f"{info.id} ({info.name}, {info.prefix}...)" for info in (found or stored).values())
            what = f"{len(found)} keys go" if found else "no key goes"
            raise UnknownKey(f"{what} by {which!r}; give the id of one of: {known or 'there are no keys'}")
        [(hashed, info)] = found.items()
        await self.store.delete_key(hashed)
        self._seen.pop(hashed, None)
        return info

    async def _put(self, key: str, name: str) -> KeyInfo:
        hashed = digest(key)
        # A short key, made up by the operator, shows at most a quarter of itself.
        info = KeyInfo(id=hashed[:12], name=name, prefix=key[: min(8, len(key) // 4)], created=self._now())
        await self.store.put_key(hashed, asdict(info))
        return info


def digest(key: str) -> str:
    """SHA-256 of the key, in hex."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
