"""The faults: what each does to a service, and how it is undone. `World` says what there is to be hit.

A fault is begun, lasts, and is undone; what a kubelet does, starting again what has ended, `World.tend` does meanwhile.
Each says what it hit, and fails if it hit nothing.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.faults.world import Node, World, parent
from benchmarks.live import ROOT

ROLL_S = 300.0
"""Seconds within which all workers have to be replaced, also on a machine that has much else to do."""

Begun = AbstractContextManager[str]
"""What was hit, in words; at the end of the block it is undone."""


@dataclass(frozen=True, slots=True)
class Kind:
    """lasts_s: seconds before it is undone. weight: how often it comes in a soak, beside others. light: may another
    fault follow before the service is whole again? needs: what the machine has to allow."""

    name: str
    what: str
    begin: Callable[[World, random.Random], Begun]
    lasts_s: float = 0.0
    weight: int = 4
    light: bool = False
    needs: str | None = None


class NotHit(RuntimeError):
    """The fault could not be brought about."""


def kill(pid: int) -> None:
    """Returns once it is gone. Raises NotHit."""
    try:
        process = psutil.Process(pid)
        process.kill()
        process.wait(10)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        raise NotHit(f"{pid} does not die") from None


def _one(pids: list[int], rng: random.Random, what: str) -> int:
    if not pids:
        raise NotHit(f"there is no {what}")
    return rng.choice(sorted(pids))


# What is killed


@contextmanager
def worker(world: World, rng: random.Random) -> Iterator[str]:
    pid = _one(world.replicas(), rng, "replica")
    kill(pid)
    yield f"replica {pid}"


@contextmanager
def engine(world: World, rng: random.Random) -> Iterator[str]:
    replicas = world.replicas()
    engines = [pid for pid in world.processes("cat") if parent(pid) in replicas]
    pid = _one(engines, rng, "engine process")
    of = parent(pid)
    kill(pid)
    yield f"engine process {pid} of replica {of}"


@contextmanager
def raylet(world: World, rng: random.Random) -> Iterator[str]:
    node = rng.choice(world.nodes)
    pid = node.raylet
    kill(pid)
    try:
        yield f"raylet {pid} of node {node.number}"
    finally:
        world.remove_node(node)
        world.add_node(node)


@contextmanager
def controller(world: World, rng: random.Random) -> Iterator[str]:
    pid = _one(world.processes("ServeController"), rng, "controller of Serve")
    kill(pid)
    yield f"controller {pid}"


@contextmanager
def gateway(world: World, rng: random.Random) -> Iterator[str]:
    number = rng.randrange(len(world.gateways))
    yield f"gateway {number}, {world.kill_gateway(number)}"


@contextmanager
def keeper(world: World, rng: random.Random) -> Iterator[str]:
    assert world.keeper is not None
    yield f"keeper {world.keeper.kill()}"


# Redis


@contextmanager
def redis_killed(world: World, rng: random.Random) -> Iterator[str]:
    assert world.redis is not None
    yield f"Redis {world.redis.kill()}"


@contextmanager
def redis_away(world: World, rng: random.Random) -> Iterator[str]:
    assert world.redis is not None
    world.redis.is_wanted = False
    try:
        yield f"Redis {world.redis.kill()}"
    finally:
        world.redis.is_wanted = True
        world.redis.start()


@contextmanager
def redis_slow(world: World, rng: random.Random) -> Iterator[str]:
    seconds = rng.choice((0.2, 0.6, 1.5))

    def set_delay(delay: float) -> None:
        world.relays.redis(lambda relay: setattr(relay, "delay_s", delay))

    set_delay(seconds)
    try:
        yield f"{seconds:g} s more for each answer"
    finally:
        set_delay(0.0)


@contextmanager
def redis_silent(world: World, rng: random.Random) -> Iterator[str]:
    world.relays.redis(lambda relay: relay.hold())
    try:
        yield "what is sent to Redis and back is held"
    finally:
        world.relays.redis(lambda relay: relay.release())


# The machine


@contextmanager
def disk(world: World, rng: random.Random) -> Iterator[str]:
    assert world.disk is not None
    world.disk.fill()
    try:
        if (free := world.disk.free) >= 4096:
            raise NotHit(f"{free} bytes are left on the disk")
        yield "no byte is left on the disk of batches and Redis"
    finally:
        world.disk.clear()


@contextmanager
def network(world: World, rng: random.Random) -> Iterator[str]:
    assert world.network is not None
    world.network.cut()
    try:
        yield "node 1 is cut off"
    finally:
        world.network.mend()


@contextmanager
def network_long(world: World, rng: random.Random) -> Iterator[str]:
    """Ray takes the node for dead meanwhile, and it has to be started anew."""
    [node] = [own for own in world.nodes if own.is_far]
    with network(world, rng) as told:
        yield told
    _come_back(world, node)


def _come_back(world: World, node: Node) -> None:
    """A node that Ray has taken for dead meanwhile ends when it hears of it, and is started anew, as a kubelet does."""
    deadline = time.monotonic() + 20
    while psutil.pid_exists(node.raylet) and time.monotonic() < deadline and world.missing() is not None:
        world.tend()
        time.sleep(0.5)
    if world.missing() is not None:
        world.remove_node(node)
        world.add_node(node)


@contextmanager
def frozen(world: World, rng: random.Random) -> Iterator[str]:
    """The raylet and all replicas of a node: open connections, and nobody at their other end."""
    node = rng.choice(world.nodes)
    pids = [node.raylet, *world.replicas(node)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield f"node {node.number}: {len(pids) - 1} replicas and their raylet stand still"
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        _come_back(world, node)


@contextmanager
def clock(world: World, rng: random.Random) -> Iterator[str]:
    clocks = {f"gateway {number}": own for number, own in enumerate(world.clocks)}
    clocks |= {f"node {node.number}": node.clock for node in world.nodes}
    where, seconds = rng.choice(sorted(clocks)), rng.choice((-3600.0, -30.0, 30.0, 3600.0))
    clocks[where].jump(seconds)
    try:
        yield f"{where}: {seconds:+g} s"
    finally:
        clocks[where].jump(0.0)


# What is no fault, and may cost no request


@contextmanager
def drain(world: World, rng: random.Random) -> Iterator[str]:
    """A node leaves in good order, and comes back."""
    node = rng.choice(world.nodes)
    id_ = node.own.node_id
    command = [sys.executable, "-m", "orchestrator.cli", "workers", "leave", "--node", id_, "--within", "60"]
    left = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": world.address}, capture_output=True, text=True, check=False
    )
    if left.returncode:
        raise NotHit(f"node {node.number} does not leave: {left.stderr[-500:]}")
    try:
        yield f"node {node.number} has left"
    finally:
        world.remove_node(node)
        world.add_node(node)


@contextmanager
def upgrade(world: World, rng: random.Random) -> Iterator[str]:
    """Another setting of the engines: Serve replaces every worker."""
    before = set(world.replicas())
    world.change_config()
    deadline = time.monotonic() + ROLL_S
    while left := before & set(world.replicas()):
        if time.monotonic() > deadline:
            raise NotHit(f"replicas {sorted(left)} are not replaced after {ROLL_S:.0f} s")
        world.tend()
        time.sleep(0.5)
    yield f"all {len(before)} replicas are replaced"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("worker", "kill -9 a worker", worker, weight=7, light=True),
        Kind("engine", "kill -9 an engine's process", engine, weight=10, light=True),
        Kind("raylet", "kill -9 a raylet; its node is back 3 s later", raylet, 3.0, weight=2),
        Kind("controller", "kill -9 Serve's controller", controller, light=True),
        Kind("gateway", "kill -9 a gateway", gateway, light=True),
        Kind("keeper", "kill -9 `coe workers keep`", keeper, weight=2, light=True),
        Kind("redis", "kill -9 Redis", redis_killed, weight=10, light=True),
        Kind("redis-away", "Redis is away for 30 s", redis_away, 30.0, weight=1),
        Kind("redis-slow", "Redis answers 0.2, 0.6 or 1.5 s later, for 3 s", redis_slow, 3.0, weight=6, light=True),
        Kind("redis-silent", "Redis does not answer for 3 s", redis_silent, 3.0, light=True),
        Kind("disk", "the disk is full for 3 s", disk, 3.0, weight=8, light=True, needs="disk"),
        Kind("network", "a node is cut off for 3 s", network, 3.0, weight=4, needs="network"),
        Kind("network-long", "a node is cut off for 60 s", network_long, 60.0, weight=0, needs="network"),
        Kind("frozen", "a node stands still for 3 s", frozen, 3.0, weight=4),
        Kind("frozen-long", "a node stands still for 45 s", frozen, 45.0, weight=0),
        Kind("clock", "a clock jumps by 30 s or an hour, for 3 s", clock, 3.0, weight=6, light=True),
        Kind("drain", "a node leaves in good order, and comes back", drain, weight=1),
        Kind("upgrade", "a setting of the engines is changed, and all workers with it", upgrade, weight=1),
    )
}
