"""From one configuration to another while the service runs: what is new, what goes, and what only a restart can change.
Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experts.spec import ExpertSpec
from orchestrator.config.model import Config
from orchestrator.plans import DevicePlan, FamilyPlan, Plan, families_of, version

STAYS: Mapping[str, tuple[str, ...]] = {
    "server": ("home", "host", "port", "redis_url", "ray_address", "tls_cert", "tls_key", "tls_client_ca"),
    "limits": (
        "concurrent_requests", "waiting_requests", "queue_s", "gateway_s", "connections", "body_s", "drain_s",
        "ready_s",
    ),
    "batch": (),
    "traces": (),
}  # fmt: skip
"""Keys by section that are as they were at the start; without keys all of a section is. The socket, the connections to
Redis and Ray, the door and the places in it are made once."""
DEPTH = 3
"""Of a key that is told: `families.large.max_num_seqs`, and nothing below it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of experts: of those that are replaced the weights are others. changed: keys, and `experts.<name>` for what
    an expert is said to be. needs_restart: keys that stay as they are until then. new_engines: families whose workers
    are started anew, one after the other."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    new_engines: tuple[str, ...] = ()


def difference(old: Config, new: Config, before: Mapping[str, Plan], after: Mapping[str, Plan]) -> Difference:
    """before, after: the plans of the two, see `orchestrator.plans.plans`."""
    was, now = _experts(before), _experts(after)
    both = [name for name in now if name in was]
    replaced = tuple(name for name in both if _weights(*was[name]) != _weights(*now[name]))
    keys = list(_differing(_plain(old), _plain(new)))
    said = [f"experts.{name}" for name in both if was[name][0] != now[name][0] and name not in replaced]
    return Difference(
        added=tuple(name for name in now if name not in was),
        removed=tuple(name for name in was if name not in now),
        replaced=replaced,
        changed=(*(key for key in keys if not _stays(key)), *said),
        needs_restart=tuple(key for key in keys if _stays(key)),
        new_engines=tuple(
            own.family
            for app, plan in after.items()
            if app in before and version(before[app]) != version(plan)
            for own in families_of(plan)
        ),
    )


def applied(old: Config, new: Config) -> Config:
    """The new configuration, with what only a restart can change as it is in the old one."""
    update: dict[str, Any] = {}
    for section, keys in STAYS.items():
        was, now = getattr(old, section), getattr(new, section)
        update[section] = now.model_copy(update={key: getattr(was, key) for key in keys}) if keys else was
    return new.model_copy(update=update)


def united(new: Mapping[str, Plan], old: Sequence[Mapping[str, Plan]]) -> dict[str, Plan]:
    """What the new plans and those of old configurations need, of which requests may still be under way: the new ones
    with the experts that are gone, where these are of the same families."""
    kept = dict(new)
    for plans in old:
        for app, plan in plans.items():
            kept[app] = _with_gone(kept[app], plan) if app in kept else plan
    return kept


def _with_gone(new: Plan, old: Plan) -> Plan:
    if isinstance(new, FamilyPlan) and isinstance(old, FamilyPlan):
        return _family_with_gone(new, old)
    if isinstance(new, DevicePlan) and isinstance(old, DevicePlan):
        former = {own.family: own for own in old.families}
        families = [_family_with_gone(own, former[own.family]) if own.family in former else own for own in new.families]
        return replace(new, families=tuple(families))
    return new


def _family_with_gone(new: FamilyPlan, old: FamilyPlan) -> FamilyPlan:
    names = {spec.name for spec in new.experts}
    gone = tuple(spec for spec in old.experts if spec.name not in names)
    both = replace(new, experts=(*new.experts, *gone))
    return both if gone and version(both) == version(new) else new


def _experts(plans: Mapping[str, Plan]) -> dict[str, tuple[ExpertSpec, str]]:
    """Expert -> (itself, the fingerprint of its files)."""
    return {
        spec.name: (spec, own.fingerprints[spec.name])
        for plan in plans.values()
        for own in families_of(plan)
        for spec in own.experts
    }


def _weights(spec: ExpertSpec, fingerprint: str) -> tuple[object, ...]:
    return spec.kind, spec.source, spec.base, spec.family_name, spec.options, fingerprint


def _plain(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="python", exclude={"experts"})


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        was, now, here = old.get(key), new.get(key), (*path, str(key))
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict) and len(here) < DEPTH:
            yield from _differing(was, now, here)
        else:
            yield ".".join(here)


def _stays(key: str) -> bool:
    section, _, rest = key.partition(".")
    keys = STAYS.get(section)
    return keys is not None and (not keys or rest.partition(".")[0] in keys)
