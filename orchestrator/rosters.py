"""What Serve tells running workers of their experts: its `user_config`, for which it restarts nobody.

A thousand experts are half a megabyte as JSON, which Serve's controller copies and compares again and again: so they go
packed.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experts.spec import ExpertSpec
from orchestrator.plans import Plan, families_of, footprint
from workers.base import Roster

_KEY = "rosters"


@dataclass(frozen=True, slots=True)
class Served:
    """Whom a family serves, and the bytes of a shared device that it takes while awake."""

    roster: Roster
    bytes: int


def pack(plan: Plan) -> dict[str, str]:
    """The plan's rosters, for `unpack`. The same for equal ones."""
    told = {
        own.family: {
            "experts": [spec.model_dump(mode="json", exclude_defaults=True) for spec in own.roster.experts],
            "pinned": sorted(own.roster.pinned),
            "version": own.roster.version,
            "bytes": footprint(own) if own.config.device is not None else 0,
        }
        for own in families_of(plan)
    }
    return {_KEY: base64.b64encode(zlib.compress(json.dumps(told, sort_keys=True).encode())).decode()}


def unpack(user_config: Mapping[str, Any]) -> dict[str, Served]:
    """Family -> what it serves. Raises ValueError, KeyError, TypeError, zlib.error for what `pack` did not make."""
    told = json.loads(zlib.decompress(base64.b64decode(user_config[_KEY])))
    return {
        family: Served(
            Roster(
                tuple(ExpertSpec.model_validate(spec) for spec in own["experts"]),
                frozenset(own["pinned"]),
                own["version"],
            ),
            own["bytes"],
        )
        for family, own in told.items()
    }
