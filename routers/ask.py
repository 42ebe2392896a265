"""What the human asks for: the text to route on, in messages that tools, agents and templates have written into too.

The rules, in their order:

1. *Turns.* Only messages of the user count; the last one that holds words of the human's own is the turn. The result of
   a tool that comes as a user's message has none. Without such a message the last one with text is taken as it is.
2. *Foreign text* is left out: blocks in tags that machines write (`<context>`, `<tool_result>`, `<thinking>`, ...), the
   sections `Thought:`, `Action:`, `Observation:` of an agent, and of a template with a context and a question
   (`Context: ... Question: ...`, or in tags) all but the question.
3. *Quotes* count less: fenced code, quoted or forwarded mail, log lines and stack traces come after the human's own
   words, and only where these are short (SHORT) and so may point to the quote; cut to WITH_QUOTE together. Own words
   that do nothing but point ("can you answer this?") leave the ask to the quote. A signature is left out.
4. *Courtesy* is left out at both ends: greetings, thanks, apologies, wishes.
5. *Follow-ups* such as "yes, go on" ask for what was asked before: the human's turn before is added.

A message in which none of this occurs is returned as it is, but for characters of no width, which are dropped, and
unusual spaces, which are made plain ones. Marks are English, as the templates and agents that write
them are; a mark in another language is taken for the human's words. The time is linear in the length of the messages.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT = 120
"""Characters of the human's own words under which a quote is looked at."""
WITH_QUOTE = 400
"""Characters of own words and quote together."""
LONGEST = 32_768
"""Characters of a message that are read at its beginning, and as many at its end."""

# Tags

_FOREIGN_TAGS = """
    context contexts document documents doc docs passage passages sources search_results retrieved_context knowledge
    tool_result tool_results tool_response tool_output tool_call tool_calls function_results function_calls stdout
    stderr thinking think scratchpad reasoning observation observations environment environment_details system_prompt
    system-reminder history chat_history conversation memory memories attachment attachments additional_data
""".split()
_ASK_TAGS = "question query user_query user_question user_request user_message user_input request ask task".split()
_TAG = re.compile(rf"<(/?)({'|'.join(_FOREIGN_TAGS + _ASK_TAGS)})(?:\s[^<>]{{0,300}})?>", re.IGNORECASE)

# Labels at the beginning of a line

_AGENT = r"thought|action|action input|observation|tool (?:call|result|output|response)s?|scratchpad"
_CONTEXT = (
    r"(?:\w+ ){0,2}context(?: information)?(?: is below)?|(?:retrieved |relevant |search )?(?:documents|passages)"
    r"|search results|sources|(?:chat|conversation) history|(?:previous|current) conversation|knowledge(?: base)?"
    r"|logs?|memory"
)
_ASK = r"(?:(?:the |my )?user(?:'s)? |follow[- ]up |new |my )?(?:question|query|request|ask|task|input)|user|human"
_LABEL = re.compile(
    rf"[ \t]*(?P<heading>\#+[ \t]*)?\**(?:(?P<agent>{_AGENT})|(?P<context>{_CONTEXT})|(?P<ask>{_ASK}))[ \t]*\**"
    r"(?(heading)(?::|[ \t]*$)|(?::|\.$))\**",
    re.IGNORECASE | re.MULTILINE,
)
_TOOL_TURN = re.compile(
    r"[ \t]*\[?(?:observation|(?:tool|function)[ _](?:call )?(?:result|output|response)s?(?: (?:for|of|from) \S+)?"
    r"|result of (?:calling|the tool|tool)\b[^\n:]{0,80})\]?[ \t]*:",
    re.IGNORECASE,
)

# Quotes

_FENCE = re.compile(r" {0,3}(```|~~~)")
_QUOTED = re.compile(r"[ \t]*>(?!>> )[> \t]*")  # but not the prompt of Python
_MAIL_BEGINS = re.compile(r"[ \t]*(?:-{2,} ?(?:original|forwarded) message|begin forwarded message)", re.IGNORECASE)
_MAIL_HEAD = re.compile(r"(?:from|sent|to|cc|date|subject): ?\S", re.IGNORECASE)
_WROTE = re.compile(r"[ \t]*\S.{0,200}\bwrote:\s*$", re.IGNORECASE | re.MULTILINE)
_SIGNATURE = re.compile(r"-- ?$", re.MULTILINE)
_SIGNATURE_LINES = 8
_LOG = re.compile(
    r"[ \t]*(?:\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\[?\d\d:\d\d:\d\d[\].,]|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
    r"|\[?(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\]?[ :]|Traceback \(most recent call last\):"
    r"|File \"[^\"\n]+\", line \d+|at [\w.$<>/]+ ?\([^()\n]*\)[ \t]*$|Caused by: )",
    re.MULTILINE,
)

_AT_LINE = (_LABEL, _TOOL_TURN, _FENCE, _QUOTED, _MAIL_BEGINS, _MAIL_HEAD, _WROTE, _SIGNATURE, _LOG)
_MARK = re.compile(
    "|".join([_TAG.pattern, *(f"^(?:{mark.pattern})" for mark in _AT_LINE)]), re.IGNORECASE | re.MULTILINE
)

# Courtesy, and words that point

_GREETING = (
    r"(?:hi|hiya|hello|hey|howdy|dear|greetings|good (?:morning|afternoon|evening|day))"
    r"(?: (?:there|all|everyone|team|folks|again|guys|friend|sir|madam"
    r"|(?:(?:mr|mrs|ms|dr|prof)\.? )?(?-i:(?!World)[A-Z]\w+)(?: (?-i:[A-Z]\w+))?))?"
    r"(?:[,.!:;]+|\n)"
)
_FORMULA = (
    r"(?:i |we )?(?:hope (?:you|this|all|everything)|apologi[sz]e)|(?:i'?m |so )*sorry (?:to|for)|excuse me|how are you"
    r"|(?:just )?(?:a |one )?quick question|(?:i )?(?:just )?have a (?:quick )?question"
)
_OPENING = re.compile(rf"\s*(?:{_GREETING}|(?:{_FORMULA})\b[^.!?\n:)]{{0,120}}[.!?\n:)]+)\s*", re.IGNORECASE)
_ENDING = re.compile(
    r"(?:\A|(?<=[.!?\n)]))\s*\(?(?:(?:many |so )?thanks|thank you|thx|cheers|(?:best|kind|warm|with)[ \w]{0,12}"
    r"(?:regards|wishes)|regards|sincerely|yours (?:truly|sincerely|faithfully)|(?:please|pls|plz) help"
    r"|any help (?:is|would)|(?:much |i )appreciate|looking forward|have a (?:nice|good|great|lovely)|sent from my)\b"
    r"[^.!?\n]{0,120}[^\w\n]*(?:\n[ \t]*[^\s.!?]{1,30}(?: [^\s.!?]{1,30})?[ \t]*)?\s*\Z",
    re.IGNORECASE,
)
_ENDING_WITHIN = 300
_POINTING = frozenset(
    """
    a an the this that these those it its one ones below above following attached attachment here there can could would
    will you your we i me my us our he she they him her them his their please pls plz help answer answers reply respond
    look looking see check read take have has had do does did is are was were be been being any anyone some someone idea
    ideas thought thoughts think what which how about on in at to for of and or so but with from fyi need want know tell
    get got give if not none no mail email message text question questions let ll s t m re ve
    """.split()
)

_FOLLOW_UP = re.compile(
    r"(?:\W*\b(?:yes|yeah|yep|no|nope|ok|okay|sure|please|continue|go on|go ahead|proceed|next|more|again|retry"
    r"|try again|thanks|thank you|do it|do that|do so|why|how so|and|then|shorter|longer|simpler|explain|elaborate"
    r"|in detail|are you sure|what else|tell me more|keep going)\b)+\W*",
    re.IGNORECASE,
)


_SPACES = str.maketrans(
    dict.fromkeys("\u00a0\u2007\u202f\u2009\u200a\u3000", " ") | dict.fromkeys("\u200b\u2060\ufeff\u00ad", "")
)


@dataclass(slots=True)
class _Turn:
    """A user's message: the human's own words, "" if there are none, and what is quoted there."""

    own: str
    quoted: str


def ask(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text to route on.

    messages: as in a chat request, {"role": ..., "content": text or a list of {"type": "text", "text": ...}}; parts of
    other types are skipped. Returns "" if no message has text.
    """
    said = [(str(message.get("role")), _text(message.get("content"))) for message in messages]
    by_user = [text for role, text in said if role == "user" and text.strip()]
    if not by_user:
        return next((text for _, text in reversed(said) if text.strip()), "")
    quoted = ""
    latest: list[str] = []
    for text in reversed(by_user):
        turn = _read(text)
        quoted = quoted or turn.quoted
        if turn.own:
            latest.append(turn.own)
            if len(turn.own) > SHORT or not _FOLLOW_UP.fullmatch(turn.own):
                break
    if not latest:
        return by_user[-1]
    own = "\n".join((latest[0], latest[-1]) if len(latest) > 1 else latest)
    return f"{own}\n{quoted}"[:WITH_QUOTE] if quoted and len(own) < SHORT else own


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str)).translate(_SPACES)


def _read(text: str) -> _Turn:
    if len(text) > 2 * LONGEST:
        text = f"{text[:LONGEST]}\n{text[-LONGEST:]}"
    if not any(map(str.isalnum, text)):
        return _Turn("", "")
    if not _MARK.search(text):
        return _Turn(_plain(text), "")
    text = text.replace("\r\n", "\n")
    if _TOOL_TURN.match(text.lstrip()):
        return _Turn("", "")
    lines = list(_marked(_sections(_untagged(text)).split("\n")))
    own, quoted = ("\n".join(line for line, mine in lines if mine is which).strip() for which in (True, False))
    if not any(map(str.isalnum, own)):
        return _Turn("", quoted)
    own = _plain(own)
    return _Turn(quoted, "") if quoted and _only_points(own) else _Turn(own, quoted)


def _plain(text: str) -> str:
    """Without courtesy at its ends; as it is if there is nothing else."""
    plain = text
    while opening := _OPENING.match(plain):
        plain = plain[opening.end() :]
    while ending := _ENDING.search(plain[-_ENDING_WITHIN:]):
        plain = plain[: len(plain) - len(ending[0])]
    return plain if any(map(str.isalnum, plain)) else text


def _only_points(text: str) -> bool:
    return len(text) < SHORT and _POINTING.issuperset(re.findall(r"[^\W_]+", text.lower()))


def _untagged(text: str) -> str:
    """Without the foreign blocks; where there are some and the ask has a tag too, the ask alone."""
    kept: list[str] = []
    asked: list[str] = []
    is_foreign = False
    name, depth, begin, end = "", 0, 0, 0  # the open block: where its tag begins, and where the text after it does
    for tag in _TAG.finditer(text):
        found = tag[2].lower()
        if not depth and not tag[1]:
            kept.append(text[end : tag.start()])
            name, depth, begin, end = found, 1, tag.start(), tag.end()
        elif depth and found == name:
            depth += -1 if tag[1] else 1
            if not depth:
                if name in _ASK_TAGS:
                    asked.append(text[end : tag.start()])
                    kept.append(asked[-1])
                else:
                    is_foreign = True
                end = tag.end()
    kept.append(text[begin if depth else end :])  # a tag that is never closed is no block
    return "\n".join(asked) if is_foreign and asked else "".join(kept)


def _sections(text: str) -> str:
    """Without an agent's sections; of a template with foreign sections and questions the last question."""
    kinds: list[str] = []
    agent: set[str] = set()
    bodies: list[list[str]] = [[]]
    for line in text.split("\n"):
        if (label := _LABEL.match(line)) and label.lastgroup:
            kinds.append(label.lastgroup)
            agent.add((label["agent"] or "").lower())
            bodies.append([line[label.end() :]])
        else:
            bodies[-1].append(line)
    is_agent = len(agent - {""}) > 1  # one such word alone is a word like any other
    asked = ["\n".join(body) for kind, body in zip(kinds, bodies[1:], strict=True) if kind == "ask"]
    asked = [body for body in asked if body.strip()]
    if asked and (is_agent or "context" in kinds):
        return asked[-1]
    return "\n".join(bodies[0]) if is_agent else text


def _marked(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """(line without its mark, is it the human's own?)"""
    fence, is_below = "", False
    for place, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif fence:
            yield line, False
        elif _SIGNATURE.match(line) and len(lines) - place <= _SIGNATURE_LINES:
            return
        elif is_below or _QUOTED.match(line):
            yield _QUOTED.sub("", line, count=1), False
        elif _MAIL_BEGINS.match(line) or _is_mail_head(lines[place : place + 3]):
            is_below = True
        elif not (_WROTE.match(line) and any(map(_QUOTED.match, lines[place + 1 : place + 3]))):
            yield line, not _LOG.match(line)


def _is_mail_head(lines: Sequence[str]) -> bool:
    return bool(_MAIL_HEAD.match(lines[0])) and sum(bool(_MAIL_HEAD.match(line)) for line in lines) > 1
