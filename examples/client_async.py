"""Two questions at once, one of them as a stream."""

import asyncio

from coe_client import AsyncCoe


async def watch(coe: AsyncCoe) -> str:
    async with coe.chat_stream("What is math good for?") as stream:
        async for _ in stream.texts():
            pass
    return stream.answer.model


async def main() -> None:
    async with AsyncCoe() as coe:
        answer, expert = await asyncio.gather(coe.chat("What is SQL good for?"), watch(coe))
    print(f"{answer.model} and {expert} answered")


if __name__ == "__main__":
    asyncio.run(main())
