"""API keys: made here, shown once, stored as SHA-256.

A key has 256 random bits, so a plain hash is as good as a slow one, and looking a digest up leaks nothing about the key
through time. Verified keys are remembered for FRESH_S, and for STALE_S while Redis is away, so that a restart of Redis
does not lock out those who were just served.

A key that is rotated gets a successor of the same lineage: the id of the first key, by which limits and conversations
are kept, so that a new key is no new caller.

`InvalidKey`   the key is not known, was disabled, or has expired
`UnknownKey`   no stored key, or more than one, goes by the id, prefix or name that was given
`EndedKey`     a key that has ended cannot be rotated
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.access.grant import Grant
from orchestrator.store import Store, StoreUnavailable

FRESH_S = 60.0
STALE_S = 3600.0
ASK_AGAIN_S = 5.0
"""After a failure of Redis, remembered keys are served for so long without asking it again: a server that swallows
packets would otherwise add its time-out to every request."""
GRACE_S = 24 * 3600.0
"""How long a key lives on after it was rotated, where nothing else is said."""

KEY_FORM = re.compile(r"coe-[A-Za-z0-9_-]{43}")


class InvalidKey(PermissionError):
    """The key is not known, was revoked or disabled, or has expired."""


MAX_NAME = 100


class UnknownKey(LookupError):
    """No stored key, or more than one, goes by the id, prefix or name that was given."""


class EndedKey(ValueError):
    """The key has expired, so that nothing can come after it."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of a key. id: first 12 hex digits of its digest; prefix: its first characters, for people to
    recognise it by; created, expires: Unix time in seconds, expires None = never; lineage: id of the first key of
    those that were rotated into this one; generation: how many they are."""

    id: str
    name: str
    prefix: str
    created: float
    expires: float | None = None
    enabled: bool = True
    lineage: str = ""
    generation: int = 0
    grant: Grant = field(default_factory=Grant)

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> "KeyInfo":
        """From what is stored, also by a service that knew of no scopes."""
        known = {name: data[name] for name in cls.__slots__ if name in data and name != "grant"}
        return cls(**{"lineage": data["id"], **known}, grant=Grant.stored(data.get("grant", {})))

    def problem(self, now: float) -> str | None:
        """Why the key does not work at this time; None if it does."""
        if not self.enabled:
            return "the API key is disabled"
        if self.expires is not None and now >= self.expires:
            return f"the API key has expired, {datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d %H:%M} UTC"
        return None

    def state(self, now: float) -> str:
        """In a word: active, disabled or expired."""
        return "disabled" if not self.enabled else "expired" if self.problem(now) else "active"


@dataclass(frozen=True, slots=True)
class _Seen:
    info: KeyInfo
    at: float


class Keys:
    """The keys in a store. Every method but the constructor raises StoreUnavailable if the store is away."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self.store = store
        self.now = now
        self._seen: dict[str, _Seen] = {}  # only keys that were verified: as many as there are keys
        self._quiet_until = 0.0

    async def create(self, name: str, grant: Grant | None = None, expires: float | None = None) -> tuple[str, KeyInfo]:
        """A new key and what is stored of it. The key itself can never be shown again. Raises ValueError for a name
        that cannot stand in a line."""
        if not (0 < len(name) <= MAX_NAME and name.isprintable()):
            raise ValueError(f"name: got {name[:MAX_NAME]!r}; allowed: 1 to {MAX_NAME} printable characters")
        key = "coe-" + secrets.token_urlsafe(32)
        return key, await self._put(key, name, grant or Grant(), expires)

    async def ensure(self, key: str, name: str = "first") -> KeyInfo:
        """Makes `key` valid, whoever made it up. Raises ValueError if it cannot stand in a header."""
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError("the API key must be of printable ASCII characters without spaces, and not empty")
        known = await self.store.get_key(digest(key))
        return KeyInfo.stored(known) if known else await self._put(key, name, Grant(), None)

    async def verify(self, key: str) -> KeyInfo:
        """What is known of a valid key. Raises InvalidKey, and StoreUnavailable if it cannot be told."""
        info, now = await self._known(digest(key)), self.now()
        if problem := info.problem(now):
            raise InvalidKey(problem)
        return info

    async def _known(self, hashed: str) -> KeyInfo:
        now = self.now()
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
        info = KeyInfo.stored(known)
        self._seen[hashed] = _Seen(info, now)
        return info

    async def list(self) -> list[KeyInfo]:
        """All keys, oldest first; those that expired too, until they are revoked."""
        return sorted((await self._stored()).values(), key=lambda info: (info.created, info.generation))

    async def is_alive(self, lineage: str) -> bool:
        """Does any key of the lineage still work?"""
        now = self.now()
        return any(info.lineage == lineage and not info.problem(now) for info in (await self._stored()).values())

    async def find(self, which: str) -> KeyInfo:
        """The key of this id, prefix or name; of several of one lineage the newest. Raises UnknownKey."""
        return max((await self._find(which)).values(), key=lambda info: info.generation)

    async def update(self, which: str, change: Callable[[KeyInfo], KeyInfo]) -> KeyInfo:
        """Changes the key of this id or prefix, or all of this name that are of one lineage; of these, only the newest
        may get another end. Other processes notice within FRESH_S. Returns the newest. Raises UnknownKey."""
        found = await self._find(which)
        newest = max(found, key=lambda hashed: found[hashed].generation)
        for hashed in found:

            def changed(data: dict[str, Any], is_newest: bool = hashed == newest) -> dict[str, Any]:
                old = KeyInfo.stored(data)
                new = change(old)
                return asdict(new if is_newest else replace(new, expires=old.expires))

            data = await self.store.change_key(hashed, changed)
            self._seen.pop(hashed, None)
            if data is not None:
                found[hashed] = KeyInfo.stored(data)
        return found[newest]

    async def rotate(self, which: str, grace_s: float = GRACE_S) -> tuple[str, KeyInfo]:
        """A successor with the same name, scopes, limits and end; the key itself ends in `grace_s` seconds.

        Keys of the lineage that have expired are removed. Raises UnknownKey, EndedKey.
        """
        old, now = await self.find(which), self.now()
        if problem := old.problem(now):
            raise EndedKey(f"{old.id} ({old.name}): {problem}; make a new key, or enable it or move its end first")
        key = "coe-" + secrets.token_urlsafe(32)
        others = {hashed: info for hashed, info in (await self._stored()).items() if info.lineage == old.lineage}
        generation = max(info.generation for info in others.values()) + 1
        info = await self._put(key, old.name, old.grant, old.expires, old.lineage, generation)

        def ended(data: dict[str, Any]) -> dict[str, Any]:
            expires = now + grace_s if data.get("expires") is None else min(data["expires"], now + grace_s)
            return {**data, "expires": expires}

        for hashed, other in others.items():
            self._seen.pop(hashed, None)
            if other.expires is not None and other.expires <= now:
                await self.store.delete_key(hashed)
            else:
                await self.store.change_key(hashed, ended)
        return key, info

    async def revoke(self, which: str) -> KeyInfo:
        """Removes the key of this id or prefix, or all of this name that are of one lineage; other processes notice
        within FRESH_S. Returns the newest. Raises UnknownKey."""
        found = await self._find(which)
        for hashed in found:
            await self.store.delete_key(hashed)
            self._seen.pop(hashed, None)
        return max(found.values(), key=lambda info: info.generation)

    async def _stored(self) -> dict[str, KeyInfo]:
        return {hashed: KeyInfo.stored(info) for hashed, info in (await self.store.all_keys()).items()}

    async def _find(self, which: str) -> dict[str, KeyInfo]:
        """Digest -> the key of this id, else of this prefix, else all of this name if they are of one lineage."""
        stored = await self._stored()
        found: dict[str, KeyInfo] = {}
        for tell in ("id", "prefix", "name"):
            found = {hashed: info for hashed, info in stored.items() if getattr(info, tell) == which}
            if found:
                break
        if len({info.lineage for info in found.values()}) != 1:
            known = ", ".join(f"{info.id} ({info.name}, {info.prefix}...)" for info in (found or stored).values())
            what = f"{len(found)} keys go" if found else "no key goes"
            raise UnknownKey(f"{what} by {which!r}; give the id of one of: {known or 'there are no keys'}")
        return found

    async def _put(
        self, key: str, name: str, grant: Grant, expires: float | None, lineage: str = "", generation: int = 0
    ) -> KeyInfo:
        hashed = digest(key)
        # A short key, made up by the operator, shows at most a quarter of itself.
        prefix = key[: min(8, len(key) // 4)]
        info = KeyInfo(hashed[:12], name, prefix, self.now(), expires, True, lineage or hashed[:12], generation, grant)
        await self.store.put_key(hashed, asdict(info))
        return info


def digest(key: str) -> str:
    """SHA-256 of the key, in hex."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
