"""A judge and a writer without a model, that read the drafts which their prompts show."""

import json
import re
from collections.abc import Callable

from aggregators.base import Messages
from aggregators.fake import Reply

_SHOWN = re.compile(r"\[([0-9a-f]{10}) draft (\w+)\]\n(.*?)\n\[\1 end of draft \2\]", re.DOTALL)


def shown(messages: Messages) -> dict[str, str]:
    """Name -> text of the drafts in the last message."""
    return {name: text for _, name, text in _SHOWN.findall(messages[-1]["content"])}


def judging(worth: Callable[[str], int], otherwise: str = "written") -> Reply:
    """A judge that finds a text worth so much, in scores of 1 to 10 or in comparisons. Other roles say `otherwise`."""

    def reply(expert: str, role: str, messages: Messages) -> str:
        drafts = shown(messages)
        if role != "judge":
            return otherwise
        if set(drafts) == {"A", "B"}:
            return max(drafts, key=lambda name: (worth(drafts[name]), name))  # likes the second place
        dimensions = ("correctness", "completeness", "clarity")
        return json.dumps({name: dict.fromkeys(dimensions, worth(text)) for name, text in drafts.items()})

    return reply
