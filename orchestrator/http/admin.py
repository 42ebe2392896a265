"""/admin/v1: API keys over HTTP, for keys with the scope `admin` alone; /v1/key: a key about itself. docs/limits.md
describes them."""

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.access.grant import LIMITS, Change, Priority, checked_limit, expiry, strangers, with_limits
from orchestrator.access.limiter import Limiter
from orchestrator.errors import ApiError
from orchestrator.http import wire_answers as told
from orchestrator.http.reading import from_pydantic, json_object, read_body
from orchestrator.http.routes import Path
from orchestrator.http.wire_coe import Wire, one_of
from orchestrator.keys import GRACE_S, MAX_NAME, EndedKey, KeyInfo, Keys, UnknownKey


def _printable(name: str) -> str:
    if not name.isprintable():
        raise PydanticCustomError("name", "must be of printable characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)]
Names = Annotated[list[str] | Literal["all"], one_of("must be a list of names, or 'all'")]
Limit = Annotated[float | Literal["default"] | None, one_of("must be a number, null or 'default'")]


class Fields(Wire):
    """What can be said of a key; what is not given stays as it is. expires: as `coe keys` understands it."""

    name: Name | None = None
    experts: Names | None = None
    ensembles: Names | None = None
    admin: bool | None = None
    priority: Priority | None = None
    enabled: bool | None = None
    expires: str | None = Field(None, max_length=100)
    limits: dict[str, Limit] = Field(default_factory=dict)


class NewKey(Fields):
    name: Name


class Rotation(Wire):
    grace_s: float = Field(GRACE_S, ge=0, le=366 * 86400)


class Admin:
    """The methods of the paths. experts, ensembles: names that the service has."""

    def __init__(
        self, keys: Keys, limiter: Limiter, experts: tuple[str, ...], ensembles: tuple[str, ...], body_bytes: int
    ) -> None:
        self._keys, self._limiter, self._body_bytes = keys, limiter, body_bytes
        self._experts, self._ensembles = experts, ensembles

    def paths(self) -> tuple[Path, ...]:
        """Those under /admin/v1, and /v1/key."""
        keys, key = "/admin/v1/keys", "/admin/v1/keys/{key}"
        none = ("key_not_found",)
        return (
            Path(keys, "GET", self.list, "admin", answer=told.KeyList),
            Path(keys, "POST", self.create, "admin", NewKey, told.NewKeyAnswer, 201),
            Path(key, "GET", self.show, "admin", answer=told.KeyAnswer, errors=none),
            Path(key, "PATCH", self.update, "admin", Fields, told.KeyAnswer, errors=none),
            Path(key, "DELETE", self.revoke, "admin", answer=told.RevokedKey, errors=none),
            Path(f"{key}/rotate", "POST", self.rotate, "admin", Rotation, told.NewKeyAnswer, 201, none),
            Path(f"{key}/usage", "GET", self.usage, "admin", answer=told.KeyUsage, errors=none),
            Path("/v1/key", "GET", self.own, answer=told.OwnKey),
        )

    async def list(self, request: Request) -> Response:
        """GET /admin/v1/keys"""
        return _json({"object": "list", "data": [self._field(info) for info in await self._keys.list()]})

    async def show(self, request: Request) -> Response:
        """GET /admin/v1/keys/{key}"""
        return _json(self._field(await self._found(_key(request))))

    async def create(self, request: Request) -> Response:
        """POST /admin/v1/keys. The answer's `key` is shown this once."""
        fields = await self._read(request, NewKey)
        new = self._changed(KeyInfo("", fields.name, "", 0.0), fields)
        key, info = await self._keys.create(new.name, new.grant, new.expires)
        if not new.enabled:
            info = await self._keys.update(info.id, lambda old: replace(old, enabled=False))
        return _json({**self._field(info), "key": key}, 201)

    async def update(self, request: Request) -> Response:
        """PATCH /admin/v1/keys/{key}"""
        fields = await self._read(request, Fields)
        self._changed(await self._found(_key(request)), fields)  # what is wrong is told before anything is changed
        return _json(self._field(await self._keys.update(_key(request), lambda old: self._changed(old, fields))))

    async def rotate(self, request: Request) -> Response:
        """POST /admin/v1/keys/{key}/rotate. The answer's `key` is shown this once."""
        rotation = await self._read(request, Rotation)
        await self._found(_key(request))
        try:
            new, info = await self._keys.rotate(_key(request), rotation.grace_s)
        except EndedKey as error:
            raise ApiError("invalid_value", str(error)) from None
        return _json({**self._field(info), "key": new}, 201)

    async def revoke(self, request: Request) -> Response:
        """DELETE /admin/v1/keys/{key}"""
        await self._found(_key(request))
        info = await self._keys.revoke(_key(request))
        return _json({"object": "key", "id": info.id, "deleted": True})

    async def usage(self, request: Request) -> Response:
        """GET /admin/v1/keys/{key}/usage"""
        info = await self._found(_key(request))
        return _json({"object": "key.usage", "id": info.id, "usage": await self._used(info)})

    async def own(self, request: Request) -> Response:
        """GET /v1/key"""
        info: KeyInfo = request.state.caller
        return _json({**self._field(info), "usage": await self._used(info)})

    async def _used(self, info: KeyInfo) -> dict[str, Any]:
        used, caps = await self._limiter.used(info.lineage), self._limiter.caps(info.grant)
        return {limit: {"used": value, "limit": caps.get(limit)} for limit, value in used.items()}

    async def _found(self, key: str) -> KeyInfo:
        try:
            return await self._keys.find(key)
        except UnknownKey as error:
            raise ApiError("key_not_found", str(error), "key") from None

    async def _read(self, request: Request, kind: type[Any]) -> Any:
        body = await read_body(request, self._body_bytes)
        try:
            return kind.model_validate(json_object(body) if body.strip() else {})
        except ValidationError as error:
            raise from_pydantic(error) from None

    def _changed(self, info: KeyInfo, fields: Fields) -> KeyInfo:
        """The key with what the fields say of it. Raises ApiError (400)."""
        given: dict[str, Any] = {
            name: None if value == "all" else tuple(value)
            for name in ("experts", "ensembles")
            if (value := getattr(fields, name)) is not None
        }
        given |= {name: value for name in ("admin", "priority") if (value := getattr(fields, name)) is not None}
        limits = {name: _limit(name, value) for name, value in fields.limits.items()}
        grant = replace(info.grant, **given, limits=with_limits(info.grant.limits, limits))
        if unknown := strangers(grant, self._experts, self._ensembles):
            raise ApiError("invalid_value", "; ".join(unknown), "experts" if grant.experts else "ensembles")
        try:
            expires = info.expires if fields.expires is None else expiry(fields.expires, self._keys.now())
        except ValueError as error:
            raise ApiError("invalid_value", f"expires: {error}", "expires") from None
        return replace(
            info,
            name=fields.name or info.name,
            enabled=info.enabled if fields.enabled is None else fields.enabled,
            expires=expires,
            grant=grant,
        )

    def _field(self, info: KeyInfo) -> dict[str, Any]:
        """A key as the API shows it: all that is stored, but its digest."""
        grant = asdict(info.grant)
        scopes = {name: "all" if grant[name] is None else list(grant[name]) for name in ("experts", "ensembles")}
        shown = {name: value for name, value in asdict(info).items() if name != "grant"}
        return {
            "object": "key",
            **shown,
            "state": info.state(self._keys.now()),
            **scopes,
            "admin": info.grant.admin,
            "priority": info.grant.priority,
            "limits": grant["limits"],
        }


def _key(request: Request) -> str:
    return str(request.path_params["key"])


def only_admins(request: Request) -> None:
    """Raises ApiError (403) if the request's key may not manage keys."""
    if not request.state.caller.grant.admin:
        raise ApiError(
            "admin_only", "this API key has not the scope 'admin'; make one that has: coe keys create --admin"
        )


def _limit(name: str, value: Change) -> Change:
    if name not in LIMITS:
        raise ApiError("invalid_value", f"limits: got {name[:100]!r}; allowed: {', '.join(LIMITS)}", "limits")
    if value is None or value == "default":
        return value
    try:
        return checked_limit(name, value)
    except ValueError as error:
        raise ApiError("invalid_value", f"limits.{error}", f"limits.{name}") from None


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
