"""What one running vLLM computes with, expert by expert, and how that becomes something else while calls go on.

A call is bound to a `Served` from its beginning to its end: chat, image, adapter. Where an expert gets other weights,
these are another image under another name, and another `Served`, which later calls are bound to. So nobody waits, no
answer mixes two versions, and nothing that vLLM keeps for the one (cached prefixes, stamps) is taken for the other's.
What no call is bound to any more leaves the engine.
"""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from experts.spec import ExpertSpec
from workers import tool_calls
from workers.chat import ExpertChat
from workers.checkpoints import adapter_rank, fingerprint
from workers.members import AdapterRoom, Members
from workers.steps import image_name

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """How calls of an expert are computed. weights: what tells its own from others. salt: of its cached prefixes.
    formable: can vLLM bind its output to a form? It does so by the tokens of the expert that it was started with."""

    chat: ExpertChat
    weights: str
    image: str
    salt: str
    lora: "LoRARequest | None" = None
    formable: bool = False


class Serving:
    """members: what is to be served, shared with the engine. room: for adapters. It lives as long as `llm` does."""

    def __init__(self, llm: "AsyncLLM", members: Members, context_length: int, room: AdapterRoom | None) -> None:
        self._llm, self._members, self._context_length, self._room = llm, members, context_length, room
        self._served: dict[str, Served] = {}
        self._bound: Counter[Served] = Counter()  # calls under way
        self._images = {name: name for name in members.sources}  # checkpoint expert -> the image of later calls
        self._catalogue = dict(members.sources)  # image -> source, of all that the engine knows
        self._loras: set[int] = set()  # that it has, by their numbers
        self._coming: set[int] = set()  # of these, for a `Served` that is still to be made
        self._generations, self._numbers = itertools.count(1), itertools.count(1)
        self._vocabulary: dict[str, int] | None = None  # by which vLLM compiles grammars
        self._releasing, self._released = asyncio.Lock(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pinned: frozenset[str] = frozenset()

    # Calls

    def of(self, expert: str) -> Served | None:
        return self._served.get(expert)

    @contextmanager
    def bound(self, expert: str, served: Served) -> Iterator[None]:
        """A call of the expert is under way in the block."""
        self._bound[served] += 1
        try:
            yield
        finally:
            self._bound[served] -= 1
            if not self._bound[served]:
                del self._bound[served]
                if self._served.get(expert) is not served:
                    task = asyncio.get_running_loop().create_task(self._release())
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    def tier(self, spec: ExpertSpec, tiers: dict[str, str]) -> str:
        """Where an expert is; tiers: image -> where it is."""
        if problem := self._members.problems.get(spec.name):
            return f"failed: {problem}"
        served = self._served.get(spec.name)
        return "starting" if served is None else tiers.get(served.image, "starting")

    def of_experts(self, images: Mapping[str, int]) -> dict[str, int]:
        """Checkpoint expert -> what is said here of the image of its later calls."""
        return {name: images[image] for name, image in self._images.items() if image in images}

    # Start

    async def start(self, first: str) -> None:
        """All members, with the images of their own names. first: whose tokenizer vLLM was started with."""
        for spec in sorted(self._in_order(), key=lambda spec: spec.name != first):
            if spec.name not in self._members.problems:
                await self._serve(spec, await self._weights(spec), spec.base or spec.name, spec.name)
            if spec.name == first and (served := self._served.get(first)) is not None:
                self._vocabulary = served.chat.tokenizer.get_vocab()
                self._served[first] = replace(served, formable=True)

    def _in_order(self) -> list[ExpertSpec]:
        """Adapters after their bases."""
        return sorted(self._members.experts.values(), key=lambda spec: spec.kind == "adapter")

    async def _weights(self, spec: ExpertSpec) -> str:
        """Changes with the files of the expert's own weights; of a checkpoint those that its image is made of."""
        known = self._members.sources.get(spec.name)
        return f"{known.path} {known.fingerprint}" if known else await asyncio.to_thread(_of_files, spec)

    async def _serve(self, spec: ExpertSpec, weights: str, image: str, salt: str) -> None:
        """Binds the expert's later calls to this image; why that cannot be is noted."""
        former = self._served.get(spec.name)
        try:
            lora = None
            if spec.kind == "adapter":
                lora = former.lora if former is not None and former.weights == weights else await self._adapter(spec)
            chat = await self._chat(spec)
        except Exception as error:  # a broken tokenizer.json raises just that
            self._members.problems[spec.name] = one_line(error)
            self._served.pop(spec.name, None)
        else:
            formable = self._vocabulary is not None and chat.tokenizer.get_vocab() == self._vocabulary
            self._served[spec.name] = Served(chat, weights, image, salt, lora, formable)
        self._coming.clear()

    async def _chat(self, spec: ExpertSpec) -> ExpertChat:
        base = self._members.experts[spec.base].source if spec.base else None
        chat = await asyncio.to_thread(ExpertChat.load, spec, self._context_length, base)
        if spec.tool_parser is not None:
            tool_calls.check_parser(spec.tool_parser)
        return chat

    async def _adapter(self, spec: ExpertSpec) -> "LoRARequest":
        """Loads an adapter, once there is a slot for it."""
        from vllm.lora.request import LoRARequest

        room, others = self._room, [own for name, own in self._served.items() if own.lora and name != spec.name]
        rank = await asyncio.to_thread(adapter_rank, spec.source)
        if room is None or rank > room.rank or len(others) >= room.adapters:
            has = f"{room.adapters} adapters of a rank up to {room.rank}" if room else "no adapter"
            raise NoRoom(f"the engine was started for {has}: it takes a new engine, see docs/experts.md")
        while len(self._loras) >= room.slots - 1:
            self._released.clear()
            await self._release()
            if len(self._loras) >= room.slots - 1:  # calls are bound to adapters that have had their time
                await self._released.wait()
        lora = LoRARequest(spec.name, next(self._numbers), spec.source)
        self._coming.add(lora.lora_int_id)
        self._loras.add(lora.lora_int_id)
        try:
            await self._llm.add_lora(lora)
        except Exception:
            self._loras.discard(lora.lora_int_id)
            raise
        return lora

    # Change

    async def adopt(self, experts: Sequence[ExpertSpec], pinned: frozenset[str]) -> None:
        """See `workers.base.Engine.adopt`."""
        members, former = self._members, self._members.experts
        members.experts, self._pinned = {spec.name: spec for spec in experts}, pinned
        for name in former.keys() - members.experts.keys():
            members.forget(name)
            self._drop(name)
        for spec in self._in_order():
            await self._change(spec)
        await self._release(always=True)

    async def _change(self, spec: ExpertSpec) -> None:
        served = self._served.get(spec.name)
        weights, base_image = await asyncio.to_thread(_of_files, spec), self._images.get(spec.base or "")
        if served is not None and served.weights == weights and base_image in (None, served.image):
            if spec != served.chat.spec:  # what it says of itself, or how it chats
                await self._serve(spec, weights, served.image, served.salt)
            return
        if not await asyncio.to_thread(self._members.check, spec):
            self._drop(spec.name)
            return
        salt = image_name(spec.name, next(self._generations))
        if spec.kind == "checkpoint":
            self._catalogue[salt] = self._members.sources[spec.name]
            self._images[spec.name] = base_image = salt
            await self._tell_images()
        assert base_image is not None
        await self._serve(spec, await self._weights(spec), base_image, salt)

    def _drop(self, name: str) -> None:
        self._served.pop(name, None)
        self._images.pop(name, None)

    async def _release(self, *, always: bool = False) -> None:
        """Gives up what no expert and no call is bound to. always: the engine is also told what is pinned."""
        async with self._releasing:
            bound = [*self._served.values(), *self._bound]
            gone = self._catalogue.keys() - {own.image for own in bound} - set(self._images.values())
            for image in gone:
                del self._catalogue[image]
            try:
                for number in self._loras - {own.lora.lora_int_id for own in bound if own.lora} - self._coming:
                    await self._llm.remove_lora(number)
                    self._loras.discard(number)
                if gone or always:
                    await self._tell_images()
            except Exception as error:  # one that dies has nothing to be released
                if always:
                    raise
                logger.warning("an engine keeps what nobody needs any more: %s", one_line(error))
        self._released.set()

    async def _tell_images(self) -> None:
        pinned = sorted(self._images[name] for name in self._members.pinned(self._pinned) if name in self._images)
        images = {image: asdict(source) for image, source in self._catalogue.items()}
        await self._llm.collective_rpc("adopt_images", args=(images, pinned))


class NoRoom(RuntimeError):
    """An adapter does not fit what the engine was started for."""


def _of_files(spec: ExpertSpec) -> str:
    try:
        return f"{spec.source} {fingerprint(spec.source)}"
    except OSError:
        return spec.source


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
