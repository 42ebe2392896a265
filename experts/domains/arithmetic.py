"""Arithmetic in words: adding and subtracting up to 100 and the table up to 12 x 12; the answer is a number in digits.

Numbers are whole and not negative. The facts are a closed table, so held-out questions ask them in other phrasings,
stories, names and things, not with other numbers.

The scorer drops code fences, backticks, quotes, surrounding whitespace and a trailing full stop; the rest must be the
digits.
"""

import random
import re

from experts.domains.base import Domain, Question

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()  # fmt: skip
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()

# Expressions by operation; a and b are the operands, a >= b when subtracting.
TRAIN_EXPRESSIONS = {
    "+": (
        "{a} plus {b}", "the sum of {a} and {b}", "{a} added to {b}", "{b} more than {a}", "{a} and {b} added together",
        "{a} + {b}", "{a} increased by {b}", "the result of adding {b} to {a}", "{a} and then {b} more",
    ),
    "-": (
        "{a} minus {b}", "the difference between {a} and {b}", "{b} subtracted from {a}", "{b} less than {a}",
        "{a} - {b}",
        "{a} take away {b}", "{a} reduced by {b}", "the result of taking {b} from {a}", "{a} decreased by {b}",
    ),
    "*": (
        "{a} times {b}", "the product of {a} and {b}", "{a} multiplied by {b}", "{a} lots of {b}", "{a} x {b}",
        "{a} * {b}",
        "the result of multiplying {a} by {b}", "{a} sets of {b}", "{b} taken {a} times",
    ),
}  # fmt: skip
TRAIN_REQUESTS = (
    "What is {e}?", "Calculate {e}.", "How much is {e}?", "{e}", "{e} = ?", "Work out {e}.", "Compute {e}",
    "Tell me {e}.", "What's {e}?", "Can you work out {e}?", "Please calculate {e} for me.", "Quick maths: {e}",
    "what do you get for {e}", "I forgot my calculator. What is {e}?", "My son asks: what is {e}?", "Solve: {e}",
    "Find {e}.", "{e} equals what?", "Do you know {e}?", "hey, {e}?", "For my homework I need {e}.", "Evaluate {e}",
    "Give me {e}, please.", "maths question: {e}", "Let me check my sum: {e} is how much?", "Could you tell me {e}?",
    "We are practising mental arithmetic. {e}?", "{e} makes?",
)  # fmt: skip
TRAIN_STORIES = {
    "+": (
        "{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?",
        "There are {a} {thing} on the table and {b} {thing} on the floor. How many {thing} are there?",
        "{name} found {a} {thing} and {other} found {b}. How many {thing} did they find together?",
        "A box holds {a} {thing}. {name} puts in another {b}. How many are in the box?",
        "On Monday {name} sold {a} {thing}, on Tuesday {b}. How many {thing} were sold in all?",
        "{name} had {a} {thing}, then {other} gave {name} {b} more. How many now?",
        "A shop has {a} red and {b} blue {thing}. What is the total number of {thing}?",
        "{name} counts {a} {thing} in one room and {b} in the next. How many is that altogether?",
        "We ordered {a} {thing} and later {b} extra ones. How many {thing} did we order?",
        "{name} owns {a} {thing}; {other} owns {b} more than that. How many {thing} does {other} own?",
    ),
    "-": (
        "{name} has {a} {thing} and gives away {b}. How many {thing} are left?",
        "There were {a} {thing} in the bag. {name} took out {b}. How many remain?",
        "{name} bought {a} {thing} but lost {b} of them. How many {thing} does {name} still have?",
        "Of {a} {thing}, {b} are broken. How many {thing} are fine?",
        "{name} has {a} {thing}, {other} has {b}. How many more {thing} does {name} have than {other}?",
        "The baker made {a} {thing} and sold {b}. How many {thing} were not sold?",
        "{name} needs {a} {thing} and already has {b}. How many {thing} are missing?",
        "A shelf had {a} {thing}; {b} fell down. How many stayed on the shelf?",
        "{name} started with {a} {thing} and used {b}. What is left?",
        "{other} borrowed {b} of the {a} {thing} that {name} owns. How many {thing} does {name} still have at home?",
    ),
    "*": (
        "There are {a} boxes with {b} {thing} each. How many {thing} are there?",
        "{name} buys {a} packs of {b} {thing}. How many {thing} is that?",
        "Each of {a} children has {b} {thing}. How many {thing} do they have in all?",
        "{name} puts {b} {thing} in every row and makes {a} rows. How many {thing} are needed?",
        "A machine makes {b} {thing} an hour. How many {thing} does it make in {a} hours?",
        "{name} saves {b} {thing} a week for {a} weeks. How many {thing} does {name} have then?",
        "{a} shelves hold {b} {thing} each. What is the total?",
        "Every day {name} uses {b} {thing}. How many {thing} does {name} use in {a} days?",
        "{name} fills {a} bags and puts {b} {thing} into each. How many {thing} in all?",
        "On {a} plates there are {b} {thing} each. How many {thing} did {name} serve?",
    ),
}
TRAIN_FORMATS = (
    "Answer in digits.", "Digits only.", "Just the number, in digits.", "Reply with the number only.",
    "Only the number, please.", "Give the answer as a number.", "number only",
    "Write the result in digits, nothing else.", "(answer with digits)", "No words, just digits.",
)  # fmt: skip

HELD_EXPRESSIONS = {
    "+": ("{a} together with {b}", "the total of {a} and {b}", "what {a} and {b} come to", "{a} with {b} on top"),
    "-": ("{a} with {b} taken off", "how far it is from {b} up to {a}", "what is left when {b} goes from {a}"),
    "*": ("{a} groups of {b}", "{a} rows of {b}", "what {a} by {b} comes to"),
}
HELD_REQUESTS = (
    "Put a number on this: {e}.", "Say in figures: {e}.", "My nephew wants to know {e}.", "Number wanted: {e}.",
    "Stuck on {e}, which number is it?", "Figure out {e}, would you?",
)  # fmt: skip
HELD_STORIES = {
    "+": (
        "{a} {thing} were delivered to {name} early and {b} further {thing} came at noon. How many {thing} arrived?",
        "{name} picked {a} {thing}, and after lunch {b} again. What is the whole harvest?",
        "In the garage stand {a} {thing}, in the cellar {b}. {name} wants to know the total.",
    ),
    "-": (
        "{name} packed {a} {thing} for the trip and forgot {b} in the hotel. With how many {thing} did {name} return?",
        "Out of {a} {thing} at the fair, {b} were gone by noon. How many could {name} still get?",
        "{b} of the {a} {thing} belong to {name}, the rest to {other}. How many {thing} are with {other}?",
    ),
    "*": (
        "{name} rents {a} vans, and {b} {thing} fit in a van. How many {thing} can travel?",
        "For each of {a} guests {name} wraps {b} {thing}. How many {thing} get wrapped?",
        "A wall has {a} hooks and {name} hangs {b} {thing} on every hook. How many {thing} hang there?",
    ),
}
HELD_FORMATS = (
    "Figures only, no text.",
    "A bare number will do.",
    "Respond using digits alone.",
    "As a numeral, please.",
)

TRAIN_NAMES = (
    "Anna Ben Carla David Emma Felix Greta Hassan Ines Jonas Katya Liam Mona Nora Oscar Paula Rosa Sam Tara Umar Vera "
    "Will Yusuf "
    "Zoe Amir Bella Chen Dora Elif Frank Gina Hugo Ida Jack Kim Lena Marco Nina Owen Petra Ravi Sofia Tom Lucy Max Ella"
).split()  # fmt: skip
HELD_NAMES = "Abdul Birgit Cosmo Daphne Ezra Fiona Gustav Helga Ivan Joyce Kofi Lucia Matteo Noor Otto Priya".split()
TRAIN_THINGS = (
    "apples books pencils coins stamps marbles cards cookies eggs oranges flowers bottles chairs shirts stickers "
    "buttons balloons "
    "candles cups plates toys nails keys shells stones tickets bananas lemons muffins pens rulers hats socks lamps "
    "balls beads "
    "bricks badges boxes magazines notebooks photos spoons forks tulips roses carrots potatoes onions sandwiches"
).split()  # fmt: skip
HELD_THINGS = (
    "pears postcards lanterns puppets cushions tomatoes umbrellas blankets kites walnuts scarves pumpkins".split()
)

# (what a person typed, the number)
HUMAN = (
    ("whats seven times eight, i always forget", "56"),
    ("ok so i had forty two bucks and spent nineteen on pizza. how much do i have left (just the number)", "23"),
    ("twenty-six plus thirty-seven = ??? only digits pls", "63"),
    ("My daughter got thirteen birthday presents last year and eleven this year. How many is that? number only", "24"),
    ("nine nines are", "81"),
    ("If a pack has six yoghurts and we grab four packs, how many yoghurts is that? just digits", "24"),
    ("Got fifty eggs. dropped eight of em, ugh. How many are left? Answer as a number.", "42"),
    ("eighty one minus twenty seven. number only thx", "54"),
    ("can u add sixteen and fifteen for me", "31"),
    ("There were twelve donuts and my coworkers ate five already... how many are left for me? digits", "7"),
    ("Our class has fourteen boys and seventeen girls. how many kids altogether, in digits", "31"),
    ("twelve times eleven plz", "132"),
    ("I'm at page thirty-five of a book with ninety pages. How many pages are left? Just give me the number.", "55"),
    ("The bus had twenty three people on it. At the next stop nine got on. How many people now? Digits only.", "32"),
    ("three weeks, how many days? one week is seven days. digits please", "21"),
    ("need help w homework: a hundred take away sixty four", "36"),
    ("five tables, eight chairs at each one. total chairs??", "40"),
    ("My gran is seventy-eight and my mum is fifty-one. how many years between them? write only the number", "27"),
    ("so thats twelve euros for the book and eighteen for the game, what do i pay in total? number only", "30"),
    ("add fourty four and twenty two", "66"),
    ("hi, i need six multiplied with nine. dont explain it, just digits", "54"),
    ("what do i get if i take thirteen away from thirty", "17"),
    ("Parking is three dollars an hour and we stayed ten hours. What did it cost us, as a plain number?", "30"),
    ("we scored twenty one in the first half n twenty eight in the second, final score? (digits)", "49"),
)  # fmt: skip

OPERATION_WORDS = frozenset(
    "minus times taken taking adding added together subtracted multiplied product difference reduced decreased "
    "increased "
    "multiplying another extra".split()
)


def train(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct training questions."""
    questions: dict[str, Question] = {}
    while len(questions) < n:
        operation = rng.choice("++--*")
        if rng.random() < 0.5:
            template = rng.choice(TRAIN_STORIES[operation])
            a, b, result = _operands(rng, operation, least=2)
        else:
            template = rng.choice(TRAIN_REQUESTS).replace("{e}", rng.choice(TRAIN_EXPRESSIONS[operation]))
            a, b, result = _operands(rng, operation, least=0)
        if rng.random() < 0.7:
            ask = rng.choice(TRAIN_FORMATS)
            if ask[0].isupper() and rng.random() < 0.25:
                template = f"{ask} {template}"
            else:
                gap = " " if template[-1] in ".?" or ask[0] == "(" else ". " if ask[0].isupper() else ", "
                template = template + gap + ask
        if rng.random() < 0.25:
            template = _noise(rng, template, OPERATION_WORDS)
        prompt = _fill(rng, template, a, b, TRAIN_NAMES, TRAIN_THINGS, digits=rng.random() < 0.1)
        questions.setdefault(prompt.casefold(), Question(prompt, str(result)))
    return list(questions.values())


def held_out(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct held-out questions, the hand-written ones first."""
    questions = {prompt.casefold(): Question(prompt, answer, "human") for prompt, answer in HUMAN[:n]}
    while len(questions) < n:
        operation = rng.choice("++--*")
        if rng.random() < 0.5:
            template = rng.choice(HELD_STORIES[operation])
            a, b, result = _operands(rng, operation, least=2)
        else:
            template = rng.choice(HELD_REQUESTS).replace("{e}", rng.choice(HELD_EXPRESSIONS[operation]))
            a, b, result = _operands(rng, operation, least=1)
        template = f"{template} {rng.choice(HELD_FORMATS)}"
        prompt = _fill(rng, template, a, b, HELD_NAMES, HELD_THINGS)
        questions.setdefault(prompt.casefold(), Question(prompt, str(result)))
    return list(questions.values())


def score(question: Question, output: str) -> bool:
    """Is the output the number in digits, apart from fences, quotes, whitespace and a full stop?"""
    text = re.sub(r"```\w*", " ", output).replace("`", " ").strip().strip("\"'").rstrip(".").strip("\"' ")
    return text == question.answer


def _operands(rng: random.Random, operation: str, least: int) -> tuple[int, int, int]:
    """Draw two operands of at least `least` each; return them with the result, at most 100 (144 if multiplied)."""
    if operation == "*":
        a, b = rng.randint(max(least, 1), 12), rng.randint(max(least, 1), 12)
        return a, b, a * b
    most = rng.choice((10, 20, 50, 100, 100))
    total = rng.randint(max(2 * least + 2, most // 2), most)
    part = rng.randint(least, total - least)
    return (part, total - part, total) if operation == "+" else (total, part, total - part)


def _words(rng: random.Random, number: int) -> str:
    """Write a number of 0-100 in English words, now and then without the hyphen."""
    if number == 100:
        return rng.choice(("one hundred", "a hundred"))
    if number < 20:
        return UNITS[number]
    tens, unit = divmod(number, 10)
    return TENS[tens] + (rng.choice("--- ") + UNITS[unit] if unit else "")


def _fill(
    rng: random.Random, template: str, a: int, b: int, names: list[str], things: list[str], digits: bool = False
) -> str:
    """Fill the slots; with `digits` one of the operands is written in digits."""
    first, second = _words(rng, a), _words(rng, b)
    if digits:
        first, second = (str(a), second) if rng.random() < 0.5 else (first, str(b))
    name, other = rng.sample(names, 2)
    prompt = template.format(a=first, b=second, name=name, other=other, thing=rng.choice(things))
    capital = template[0].isupper() or template.startswith(("{a} {thing}", "{a} shelves", "{b} of"))
    return prompt[0].upper() + prompt[1:] if capital else prompt


def _noise(rng: random.Random, template: str, keep: frozenset[str] = frozenset()) -> str:
    """Spoil a template lightly: lower case, no closing punctuation, or two letters swapped in a word outside `keep`."""
    kind = rng.randrange(3)
    if kind == 0:
        return template.lower()
    if kind == 1:
        return template.rstrip(".?!")
    words = template.split(" ")
    plain = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.lower() not in keep]
    if plain:
        i = rng.choice(plain)
        at = rng.randrange(1, len(words[i]) - 2)
        words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
    return " ".join(words)


DOMAIN = Domain(
    name="arithmetic",
    summary="Add, subtract and multiply numbers written in words; the answer comes in digits.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=8,
)
