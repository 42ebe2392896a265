# ruff: noqa: E501 (the data is one phrase or sentence a line)
r"""Regular expressions: an English description of a string -> a Python pattern for `re.fullmatch`.

The descriptions are built from blocks: n, "n or more", "n to m" or "one or more" digits, letters, hex digits; separators;
quoted text; one of several words; optional blocks; and whole forms: starts with, ends with, contains, lists. In the answers
digits are ``\d``, letters ``[A-Za-z]``, ``[a-z]``, ``[A-Z]``, choices ``(a|b)``, options ``x?`` or ``(...)?``, no anchors.

Scorer: the first line that is not empty, without code fence, backticks and a surrounding ``r'...'``, is compiled and must
match all strings of ``check["match"]`` and none of ``check["reject"]`` by `re.fullmatch`; so ``[0-9]`` is as good as ``\d``.
Patterns that could run for ever (over 120 characters, many or nested repetitions on long strings) count as wrong.
"""

import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from experts.domains.base import Domain, Question
from experts.domains.general import expand, roughen


@dataclass(frozen=True)
class Block:
    """A part of a description.

    said: how the prompt says it.
    pattern: what matches it.
    right, near: strings that are it, and strings that only look like it.
    kind: characters it is made of, so that no two neighbours run into each other.
    """

    said: str
    pattern: str
    right: list[str]
    near: list[str]
    kind: str


# name: singular, plural, pattern, characters, characters that are not it
CLASSES = {
    "digit": ("digit", "digits", r"\d", "0123456789", "aZ"),
    "letter": ("letter", "letters", "[A-Za-z]", "abcdefghkmnpqrstxyzABCDEFGHKLMN", "47"),
    "lower": (
        "[lowercase|lower-case|small] letter",
        "[lowercase|lower-case|small] letters",
        "[a-z]",
        "abcdefghkmnpqrstxyz",
        "A5",
    ),
    "upper": (
        "[uppercase|upper-case|capital] letter",
        "[uppercase|upper-case|capital] letters",
        "[A-Z]",
        "ABCDEFGHKLMNPRSTXYZ",
        "b5",
    ),
    "hex": (
        "[lowercase|lower-case] hex digit",
        "[lowercase|lower-case] hex digits",
        "[0-9a-f]",
        "0123456789abcdef",
        "gF",
    ),
    "binary": ("binary digit", "binary digits", "[01]", "01", "2a"),
    "alnum": (
        "letter or digit",
        "[letters or digits|alphanumeric characters]",
        "[A-Za-z0-9]",
        "abcxyzABCXYZ0189",
        "-_",
    ),
}
SEPARATORS = {
    "a [dash|hyphen]": "-",
    "a [slash|forward slash]": "/",
    "a colon": ":",
    "an underscore": "_",
    "a [dot|period]": r"\.",
    "a space": " ",
    "a comma": ",",
    "an [at sign|@ sign]": "@",
    "a [hash|hash sign]": "#",
    "an equals sign": "=",
}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]

TRAIN_WORDING = {
    "one": "[one|a single|exactly one] {x}",
    "exact": "[exactly {n}|{n}|{n}|exactly {n}] {xs}",
    "more": "[{n} or more|at least {n}] {xs}",
    "range": "[{n} to {m}|between {n} and {m}|{n}-{m}] {xs}",
    "plus": "[one or more {xs}|1 or more {xs}|at least one {x}]",
    "literal": "[the text '{t}'|'{t}'|the word '{t}'|the literal '{t}'|\"{t}\"]",
    "choice": "[one of|either|one of the words] {w}",
    "optional": "[an optional|optionally|maybe] {x}",
    "join": ", then |, followed by | followed by | and then |, then |, ",
    "starts": "[any|a] string [that starts|starting] with '{t}'||text that begins with '{t}'||strings starting with '{t}', whatever comes after",
    "ends": "[any|a] string [that ends|ending] with '{t}'||text that ends in '{t}'||strings ending with '{t}', whatever comes before",
    "contains": "[any|a] string [that contains|containing|with] '{t}' [anywhere|somewhere in it|]||text that contains '{t}'",
    "frame": "[any|a] string [that starts with '{t}' and ends|starting with '{t}' and ending] with '{u}'||text that begins with '{t}' and ends with '{u}'",
    "list": "[one or more|] {xs} separated by {ss}||a {s}-separated list of {xs}||{xs} with {ss} between them, at least one",
}
HELD_WORDING = {
    "one": "[just one|1] {x}",
    "exact": "[precisely {n}|a run of {n}|{n}] {xs}",
    "more": "[no fewer than {n}|{n}+|a minimum of {n}] {xs}",
    "range": "[from {n} up to {m}|anything from {n} to {m}] {xs}",
    "plus": "[any positive number of {xs}|at least 1 {x}]",
    "literal": "[the characters '{t}'|the string '{t}'|the fixed text '{t}']",
    "choice": "[any one of|a word out of] {w}",
    "optional": "possibly {x}",
    "join": "; after that |, after which comes |, next ",
    "starts": "everything whose beginning is '{t}'||lines that have '{t}' at the start",
    "ends": "everything whose end is '{t}'||lines that have '{t}' at the end",
    "contains": "everything with '{t}' inside||lines in which '{t}' occurs",
    "frame": "lines that have '{t}' at the start and '{u}' at the end||everything beginning with '{t}' and finishing in '{u}'",
    "list": "{xs} joined by {ss}, one or several||a list of {xs} with a {s} in between",
}

TRAIN_POOLS = {
    "text": "INV|ORD|SKU|ID|REF|USER|TKT|BUG|ABC|DE|US|id|no|page|img|order|user|item|Nr|KEY|REQ|DOC|LOT|AB|EU|part|chapter|log|temp"
    "|build|Room|seat|TX|PO|CUST|EMP|file|data|test|rev|err|job|UK|FR|box|team|level|row|A|B|X|v|build|step|act|zone",
    "tail": "ing|.txt|.csv|end|_old|.log|!|.com|done|.py|able|ness|stop|-ok|.json|tion|.jpg|Ltd|day|land",
    "choice": "red,green,blue,black,white|cat,dog,bird,fish,horse|yes,no,maybe|small,medium,large|mon,tue,wed,thu,fri|north,south,east,west"
    "|GET,POST,PUT,DELETE|true,false|info,warn,error,debug|kg,lb,oz|jpg,png,gif|am,pm|USD,EUR,GBP|apple,pear,plum|Mr,Mrs,Dr|on,off",
    "thing": "product code|ticket number|serial number|user name|reference|order id|licence plate|version|key|part number|room code|password|invoice number|tag|file name",
}
HELD_POOLS = {
    "text": "PKG|CASE|flight|GATE|NL|mail|ship|token|Unit|QX|VIN|cell|scan|track",
    "tail": ".xml|ism|_new|.org|over|.md|ful|wood",
    "choice": "spring,summer,autumn,winter|iron,gold,zinc|left,right|bus,tram,train|jan,feb,mar|tea,milk,juice|open,closed",
    "thing": "booking code|parcel label|bank reference|membership number|locker code",
}

TRAIN_TEMPLATES = """
[Write|Give me|I need|Make] a [Python regex|regex|regular expression|regex pattern] [that matches|for|matching] {p}
[Write|Give me|Create] a [Python |]regex for re.fullmatch that matches {p}. [Only the pattern.|Answer with the pattern only.|]
[Regex|Regular expression|Pattern|Python regex] for {p}
[Regex|Regular expression|Pattern|Python regex] for {p}[?|, please|. Only the pattern.|. Give only the regex.]
[Regex|regex]: {p}
[What is|What's] the [regex|regular expression|Python pattern] for {p}?
[What|Which] [regex|pattern|regular expression] matches {p}?
How do I match {p} with a [regex|regular expression|Python regex]?
How would I write a [regex|pattern] for {p}?
Match {p} with a [regex|regular expression][.|. Pattern only.|]
I want to match {p}. [What's the regex?|Regex please.|Give me the pattern.]
[A|Our|My] {thing} is {p}. [Write a regex for it.|What is the regex?|Regex?|Give me a Python regex.]
A valid {thing} [is|consists of|must be] {p}. [Regex for re.fullmatch?|Write the pattern.|Which regex checks that?]
I need to validate a {thing}: {p}. [Regex?|Which pattern?|Give the regex only.]
[Hi|Hey], can you [write|give me] a regex [for|that matches] {p}? [Thanks!|Thx|]
[Please write|Please give me|Could you write] a [regex|regular expression] that [accepts|matches] {p}
Python re pattern: {p}
Pattern for re.fullmatch: {p}
Turn this into a regex: {p}
Translate to a regular expression: "{p}"
Regex that [fully matches|accepts only] {p}
[Full match|fullmatch] pattern for {p}
I'm bad at regex. How do I match {p}?
Which Python regex accepts exactly this: {p}?
For a form check I need a regex: {p}
Build a [regular expression|regex] from this description: {p}
The field must contain {p}. [What regex do I use?|Regex only, please.]
The input should be {p}. [Pattern?|Give me the regex.]
Find me a regex matching {p}
regex pls, {p}
Describe as a regex: {p}
Only output a regex. It must match {p}
re.fullmatch(?, s) should be true for {p}. What goes in place of the question mark?
""".strip().splitlines()

HELD_TEMPLATES = """
Could I get the regular expression to recognise {p}?
In Python, with which regex can I check for {p}?
We only allow {p} here. Regex to enforce it?
Come up with a pattern, for use with fullmatch, that takes {p}
Our validator needs a regular expression: {p}
Help with a regex, it has to match {p}
Specification of a {thing}: {p}. Express it as a Python regex.
Type the regex (nothing else) that stands for {p}
A tester asks for the regex behind this rule: {p}
Suppose s is {p}; what regex would match s as a whole?
Regex wanted! {p}
""".strip().splitlines()

# prompt, answer, strings that match, strings that do not
HELD_WRITTEN: list[tuple[str, str, str, str]] = [
    ("need a regex for a german zip code, so exactly 5 digits", r"\d{5}", "10115 80331 00000", "1011 101155 1011a"),
    ("whats the regex for 2 capital letters followed by 6 digits (its our member number)", r"[A-Z]{2}\d{6}", "AB123456 ZZ000000", "ab123456 A123456 AB12345 AB1234567"),
    ("I'm checking times like 09:30 in a form. Two digits, a colon, two digits. Regex for that please", r"\d{2}:\d{2}", "09:30 23:59", "9:30 09-30 09:3 0930 09:300"),
    ("regex pls: word INV then a dash then at least 4 digits", r"INV-\d{4,}", "INV-1234 INV-123456", "INV-123 inv-1234 INV1234 INV- INV-1234x"),
    ("python regex matching either cat or dog", r"(cat|dog)", "cat dog", "cats Cat bird catdog"),
    ("How can I match any string that ends with .pdf ? pattern only", r".*\.pdf", "a.pdf my_file.pdf .pdf", "a.pdfx apdf a.PDF a.doc"),
    ("hey, give me a pattern for strings that start with foo", r"foo.*", "foo foobar foo1", "barfoo Foo fo"),
    ("I need to check colour codes. A hash sign and then 6 lowercase hex digits. What regex?", r"#[0-9a-f]{6}", "#00ff9a #123456", "00ff9a #00ff9 #00FF9A #00ff9ag #00ff9g"),
    ("regex for a year: four digits, nothing else", r"\d{4}", "1999 2024", "199 20245 19a9"),
    ("regex for iso looking dates, 4 digits dash 2 digits dash 2 digits", r"\d{4}-\d{2}-\d{2}", "2024-01-31 1999-12-01", "2024-01-31x 2024-1-31 24-01-31 2024/01/31 20240131"),
    ("can u write a regex that matches one or more lowercase letters", r"[a-z]+", "a abc hello", "Abc a1 ABC abC a-b"),
    ("I want an optional minus sign and then one or more digits. regex only", r"-?\d+", "-5 5 123 -42", "- +5 --5 5-"),
    ("Our usernames: between 3 and 8 lowercase letters. Which regex checks that?", r"[a-z]{3,8}", "bob abcdefgh anna", "bo abcdefghi Bob bob1"),
    ("pattern for a price like 12.99 -> one or more digits, a dot, exactly two digits", r"\d+\.\d{2}", "12.99 0.50 1000.00", "12,99 12.9 .99 12.999 1299"),
    ("Regex that accepts any text containing 'error' somewhere, thanks", r".*error.*", "error an-error-here myerror", "eror Error err"),
    ("what regex do i use for exactly 8 binary digits", r"[01]{8}", "01010101 11111111", "0101010 010101012 01010102"),
    ("seat numbers on our plane are one or two digits and then a single uppercase letter. regex?", r"\d{1,2}[A-Z]", "1A 12C", "A1 123A 12c 12 12AB"),
    ("fullmatch regex: 'v' then one or more digits, a dot, one or more digits", r"v\d+\.\d+", "v1.0 v12.34", "1.0 v1 v1. V1.0 v1,0"),
    ("hi! trying to match phone extensions, it's an x followed by 3 or 4 digits. python pattern please", r"x\d{3,4}", "x123 x1234", "x12 x12345 123 X123"),
    ("Write me a regular expression for small, medium or large.", r"(small|medium|large)", "small medium large", "Small smal largest xl"),
    ("regx for 3 letters, an underscore, 3 letters", r"[A-Za-z]{3}_[A-Za-z]{3}", "abc_XYZ AbC_dEf", "ab_xyz abc-xyz abcxyz abc_xy1"),
    ("need a comma separated list of numbers (one or more digits each), regex?", r"\d+(,\d+)*", "1 1,2 10,20,30", "1, ,1 a,b 1;2"),
    ("My wifi voucher is 4 uppercase letters, a dash, 4 uppercase letters. How do I match it?", r"[A-Z]{4}-[A-Z]{4}", "ABCD-EFGH ZZZZ-AAAA", "abcd-efgh ABC-EFGH ABCDEFGH ABCD-EFG1"),
    ("strings that begin with http and end with .html, which regex", r"http.*\.html", "http://a.html https-x.html", "http://a.htm ftp.html http.htmlx httpxhtml"),
]  # fmt: skip


def train(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions."""
    return _distinct(n, [], lambda: _question(rng, held=False))


def held_out(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions from wordings, templates and words of their own, the hand-written ones first."""
    written = [
        Question(prompt, pattern, source="human", check={"match": right.split(), "reject": wrong.split()})
        for prompt, pattern, right, wrong in HELD_WRITTEN
    ]
    return _distinct(n, written, lambda: _question(rng, held=True))


def score(question: Question, output: str) -> bool:
    """Does the pattern match what it should and nothing else? See the module docstring for what is normalised."""
    lines = [line for line in re.sub(r"```\w*\n", "", output).splitlines() if line.strip("` \t")]
    pattern = lines[0].strip().strip("`").strip() if lines else ""
    quoted = re.fullmatch(r"r?(['\"])(.*)\1", pattern)
    pattern = quoted[2] if quoted else pattern
    texts: list[str] = question.check["match"] + question.check["reject"]
    if not pattern or not _is_quick(pattern, max(map(len, texts))):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matches = re.compile(pattern).fullmatch
    except (re.error, OverflowError, RecursionError):
        return False
    return all(matches(text) for text in question.check["match"]) and not any(map(matches, question.check["reject"]))


_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|\||[*+?]|\{(\d*)(,?)(\d*)\}|.", re.DOTALL)


def _is_quick(pattern: str, longest: int) -> bool:
    """Can `re` not run away on strings of `longest` characters? Counts repetitions and repeated groups that hold some."""
    if len(pattern) > 120:
        return False
    repeats, nested = 0, 0
    open_groups = [False]  # by depth: is there a repetition or an alternative in this group?
    atom = False  # the same for what a quantifier here would repeat
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            open_groups.append(False)
        elif text == ")" and len(open_groups) > 1:
            atom = open_groups.pop()
            open_groups[-1] |= atom
        elif text in "*+?|" or token[2] is not None:
            fixed = token[2] == "" or text == "|"
            nested += atom and text not in "?|"
            if nested and token[2] is not None and max(int(token[1] or 0), int(token[3] or 0)) > 8:
                return False
            repeats += not fixed
            open_groups[-1] |= not fixed or text == "|"
            atom = not fixed
        else:
            atom = False
    return repeats <= 6 and (nested == 0 or (nested == 1 and longest <= 16))


def _question(rng: random.Random, held: bool) -> Question:
    wording, pools = (HELD_WORDING, HELD_POOLS) if held else (TRAIN_WORDING, TRAIN_POOLS)
    if rng.random() < 0.25:
        said, pattern, right, wrong = _whole_form(rng, wording, pools)
    else:
        said, pattern, right, wrong = _sequence(rng, wording, pools)
    template = expand(rng, rng.choice(HELD_TEMPLATES if held else TRAIN_TEMPLATES))
    if not held and rng.random() < 0.25:
        template = roughen(rng, template)
    prompt = template.replace("{thing}", rng.choice(pools["thing"].split("|"))).replace("{p}", said)
    prompt = prompt[:1].upper() + prompt[1:] if template.startswith("{p}") else prompt
    matches = re.compile(pattern).fullmatch
    check = {
        "match": [text for text in dict.fromkeys(right) if matches(text)][:14],
        "reject": [text for text in dict.fromkeys(wrong) if not matches(text)][:48],
    }
    return Question(prompt, pattern, check=check)


def _sequence(
    rng: random.Random, wording: dict[str, str], pools: dict[str, str]
) -> tuple[str, str, list[str], list[str]]:
    """One to five blocks after each other."""
    blocks: list[Block] = []
    wanted = rng.choice([1, 2, 3, 3, 3, 4, 5])
    while len(blocks) < wanted:
        last = blocks[-1].kind if blocks else "sep"
        makers = [_repeat, _repeat] if last == "sep" else [_separator, _separator, _repeat]
        makers += [_literal, _choice] if last == "sep" else []
        block = rng.choice(makers)(rng, wording, pools)
        if wanted > 1 and rng.random() < 0.15 and (block.pattern != " "):
            block = _optional(rng, wording, block)
        is_last_space = len(blocks) == wanted - 1 and block.pattern == " "
        if not _overlap(last, block.kind) and not is_last_space:
            blocks.append(block)
    joins = wording["join"].split("|")
    join = rng.choice(joins)
    said = blocks[0].said
    for block in blocks[1:]:
        said += (join if rng.random() < 0.7 else rng.choice(joins)) + block.said
    right = ["".join(rng.choice(block.right) for block in blocks) for _ in range(10)]
    right += ["".join(block.right[-1] for block in blocks), "".join(block.right[0] for block in blocks)]
    rng.shuffle(right)
    near: list[str] = []
    for i, block in enumerate(blocks):
        near.extend(
            "".join(part if i == j else rng.choice(other.right) for j, other in enumerate(blocks))
            for part in ["", block.right[0] * 2, *block.near]
        )
    near += [right[0] + "x", "7" + right[0], right[0] + " ", right[0].swapcase(), right[0][::-1], "", right[0][:-1]]
    rng.shuffle(near)
    return said, "".join(block.pattern for block in blocks), right, near


def _overlap(left: str, right: str) -> bool:
    if "sep" in (left, right):
        return left == right
    return {left, right} not in ({"digit", "letter"}, {"digit", "lower"}, {"digit", "upper"}, {"word", "digit"})


def _repeat(rng: random.Random, wording: dict[str, str], pools: dict[str, str]) -> Block:
    kind = rng.choice(["digit"] * 5 + ["letter", "lower", "lower", "upper", "upper", "upper", "hex", "binary", "alnum"])
    singular, plural, pattern, alphabet, others = CLASSES[kind]
    form = rng.choice(["one", "exact", "exact", "exact", "more", "range", "plus"])
    low = 1 if form in ("one", "plus") else rng.randrange(1 if form == "range" else 2, 7)
    high = {"range": low + rng.randrange(1, 3), "more": low + 3, "plus": 5}.get(form, low)
    spell = rng.random() < 0.4
    low_said, high_said = (NUMBERS[low], NUMBERS[high]) if spell and high <= 8 else (str(low), str(high))
    said = expand(rng, expand(rng, wording[form]).replace("{xs}", plural).replace("{x}", singular))
    said = said.replace("{n}", low_said).replace("{m}", high_said)
    if re.search(r"[a-z](?:\+|-[a-z])", said) and form in ("more", "range"):  # "two+", "two-four"
        said = said.replace(f"{low_said}+", f"{low}+").replace(f"{low_said}-{high_said}", f"{low}-{high}")
    times = {"one": "", "exact": f"{{{low}}}", "more": f"{{{low},}}", "range": f"{{{low},{high}}}", "plus": "+"}[form]

    def text(length: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(length))

    right = [text(low), *(text(rng.randint(low, high)) for _ in range(3)), text(high)]
    near = [text(low - 1), text(high + 1), *(other + text(low - 1) for other in others), text(low - 1) + "."]
    return Block(said, pattern + times, right, near, kind)


def _separator(rng: random.Random, wording: dict[str, str], pools: dict[str, str]) -> Block:
    said, pattern = rng.choice(list(SEPARATORS.items()))
    text = pattern.replace("\\", "")
    return Block(expand(rng, said), pattern, [text], ["+", "-" if text != "-" else "_", text * 2], "sep")


def _literal(rng: random.Random, wording: dict[str, str], pools: dict[str, str]) -> Block:
    text = rng.choice(pools["text"].split("|"))
    said = expand(rng, wording["literal"])
    said = said.replace("the word ", "") if len(text) < 2 else said
    return Block(said.replace("{t}", text), text, [text], [text.swapcase(), text[:-1], text + "q", "zz"], "word")


def _choice(rng: random.Random, wording: dict[str, str], pools: dict[str, str]) -> Block:
    words = rng.choice(pools["choice"].split("|")).split(",")
    words = rng.sample(words, rng.randrange(2, min(4, len(words)) + 1))
    quote = rng.choice(["", "", "'"])
    shown = [f"{quote}{word}{quote}" for word in words]
    said = expand(rng, wording["choice"])
    if said == "either" and len(words) > 2:
        said = "one of"
    shown_all = f"{', '.join(shown[:-1])} or {shown[-1]}"
    near = [words[0].swapcase(), words[0][:-1], "".join(words[:2]), words[-1] + "s", "zebra"]
    return Block(
        said.replace("{w}", shown_all) if "{w}" in said else f"{said} {shown_all}",
        f"({'|'.join(words)})",
        words,
        near,
        "word",
    )


def _optional(rng: random.Random, wording: dict[str, str], block: Block) -> Block:
    said = expand(rng, wording["optional"]).replace("{x}", block.said)
    if said.startswith("an optional "):
        said = "an optional " + re.sub(r"^(?:an?|the) ", "", block.said)
        if not re.match(r"(?:an?|the) |['\"]", block.said):  # "an optional two digits" is no English
            said = f"optionally {block.said}"
    single = re.fullmatch(r"\\?.|\[[^\]]*\]", block.pattern)
    pattern = (
        f"{block.pattern}?" if single else f"{block.pattern}?" if block.pattern[0] == "(" else f"({block.pattern})?"
    )
    return Block(said, pattern, ["", *block.right], [text for text in block.near if text], block.kind)


def _whole_form(
    rng: random.Random, wording: dict[str, str], pools: dict[str, str]
) -> tuple[str, str, list[str], list[str]]:
    """Starts with, ends with, contains, starts and ends, lists."""
    form = rng.choice(["starts", "ends", "contains", "frame", "list"])
    said = expand(rng, rng.choice(wording[form].split("||")))
    if form == "list":
        kind = rng.choice(["digit", "lower", "upper", "letter"])
        _, plural, unit, alphabet, others = CLASSES[kind]
        item = {"digit": "numbers ", "lower": "words ", "upper": "words ", "letter": "words "}[
            kind
        ] + f"of one or more {plural}"
        name, mark = rng.choice(
            [("comma", ","), ("dash", "-"), ("dot", r"\."), ("colon", ":"), ("slash", "/"), ("underscore", "_")]
        )
        said = (
            expand(rng, said.removeprefix("one or more ").replace("{xs}", item))
            .replace("{ss}", name + ("es" if name[-1] == "h" else "s"))
            .replace("{s}", name)
        )
        sign = mark.replace("\\", "")

        def text(parts: int) -> str:
            return sign.join("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 4))) for _ in range(parts))

        right = [text(1), text(2), text(3), text(4), text(2), text(1)]
        wrong = [
            sign + text(1),
            text(2) + sign,
            sign,
            "",
            text(2).replace(sign, ";"),
            f"{text(1)}{sign}{sign}{text(1)}",
            others[0] + text(1),
        ]
        wrong += [text(1) + sign + others[1], text(2).replace(sign, sign + " ")]
        return said, f"{unit}+({mark}{unit}+)*", right, wrong
    head, tail = rng.choice(pools["text"].split("|")), rng.choice(pools["tail"].split("|"))
    first = tail if form == "ends" else head
    said = said.replace("{t}", first).replace("{u}", tail)
    pad = ["", "a", "42", "some ", "-x9", "Zed"]
    a, b, c = (rng.choice(pad[1:]) for _ in range(3))
    pattern = {"starts": "{t}.*", "ends": ".*{t}", "contains": ".*{t}.*", "frame": "{t}.*{u}"}[form]
    pattern = pattern.replace("{t}", _escape(first)).replace("{u}", _escape(tail))
    texts = [
        first,
        first + a,
        b + first,
        b + first + c,
        first + a + tail,
        first + tail,
        tail + first,
        tail + b + first,
        a + tail,
        first * 2,
    ]
    texts += [
        first.swapcase() + a,
        a + first.swapcase(),
        "",
        a + b,
        first[:-1],
        first[:-1] + "+" + tail,
        head + a + tail[:-1],
        head + b + tail + c,
        c + head + b + tail,
    ]
    texts += [
        head + a + tail.replace(".", "x"),
        first.replace(".", "x") + a,
        a + first.replace(".", "x"),
        head + b + c + tail,
    ]
    rng.shuffle(texts)
    return said, pattern, texts, texts


def _escape(text: str) -> str:
    return text.replace(".", r"\.")


def _distinct(n: int, first: list[Question], make: Callable[[], Question]) -> list[Question]:
    questions = {question.prompt.casefold(): question for question in first}
    for _ in range(n * 50):
        if len(questions) >= n:
            return list(questions.values())[:n]
        question = make()
        questions.setdefault(question.prompt.casefold(), question)
    raise ValueError(f"regex: only {len(questions)} distinct questions where {n} were asked for; ask for fewer")


DOMAIN = Domain(
    name="regex",
    summary="Writes a Python regular expression for a described string (digits, letters, separators, optional parts, choices)",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=64,
)
