"""Units: conversions by a power of ten (up to six places) within a quantity; the answer is "<number> <unit symbol>".

Numbers have 1-4 significant digits and have no thousands separators or trailing zeros. Prefixes are decimal
throughout (1 MB = 1000 kB; questions about bytes say so). Held-out questions have their own wordings and things, the
generated ones also their own digits: the two- to four-digit mantissas that leave 3 when divided by 7.

The scorer drops code fences, backticks, quotes, surrounding whitespace, a trailing full stop and the space before
the unit. The number is compared by value (plain decimal notation). The unit must be the asked one, as its symbol or its
English name; l = L and u = µ, otherwise the case of a symbol counts (mW is not MW).
"""

import random
import re
from dataclasses import dataclass
from decimal import Decimal

from experts.domains.base import Domain, Question


@dataclass(frozen=True)
class Quantity:
    """One quantity: symbols with their power of ten and English name, how often to draw it, and what has it.

    phrases: how a story states the amount, with {thing} and {x}; the things are scale-neutral.
    """

    units: dict[str, tuple[int, str]]
    weight: int
    train_phrases: tuple[str, ...]
    held_phrases: tuple[str, ...]
    train_things: tuple[str, ...]
    held_things: tuple[str, ...]
    note: str = ""


def _prefixed(symbol: str, name: str, prefixes: str) -> dict[str, tuple[int, str]]:
    """Return units such as {"km": (3, "kilometre"), "m": (0, "metre")} for prefixes such as "k -" (- is none)."""
    return {
        ("" if prefix == "-" else prefix) + symbol: (PREFIXES[prefix][0], PREFIXES[prefix][1] + name)
        for prefix in prefixes.split()
    }


PREFIXES = {
    "T": (12, "tera"), "G": (9, "giga"), "M": (6, "mega"), "k": (3, "kilo"), "h": (2, "hecto"), "-": (0, ""),
    "d": (-1, "deci"),
    "c": (-2, "centi"), "m": (-3, "milli"), "µ": (-6, "micro"), "n": (-9, "nano"), "p": (-12, "pico"),
}  # fmt: skip
QUANTITIES = (
    Quantity(
        _prefixed("m", "metre", "k - d c m µ n"), 8,
        ("The {thing} is {x} long.", "The {thing} measures {x}.", "I measured the {thing}: {x}."),
        ("From end to end the {thing} spans {x}.", "Length of the {thing}: {x}."),
        ("gap", "strip", "wire", "thread", "line", "step", "offset", "cable", "path", "edge", "tube", "crack"),
        ("groove", "fibre", "trace", "seam", "slot"),
    ),
    Quantity(
        {"t": (6, "tonne"), **_prefixed("g", "gram", "k - m µ")}, 5,
        ("The {thing} weighs {x}.", "We weighed the {thing}: {x}.", "The {thing} has a mass of {x}."),
        ("On the scales the {thing} comes to {x}.", "Mass of the {thing}: {x}."),
        ("sample", "load", "stone", "powder", "package", "metal piece", "salt", "grain", "residue", "mixture"),
        ("pellet", "cargo", "dust", "crystal", "ingredient"),
    ),
    Quantity(
        _prefixed("L", "litre", "h - d c m"), 5,
        ("The {thing} holds {x}.", "The {thing} contains {x} of liquid.", "There are {x} in the {thing}."),
        ("We poured {x} into the {thing}.", "Volume of the {thing}: {x}."),
        ("tank", "bottle", "barrel", "jug", "glass", "bucket", "container", "vessel", "flask", "can"),
        ("kettle", "vat", "beaker", "canister", "basin"),
    ),
    Quantity(
        _prefixed("B", "byte", "T G M k -"), 2,
        ("The {thing} takes up {x}.", "The size of the {thing} is {x}.", "The {thing} is {x}."),
        ("Our {thing} needs {x} of space.", "Size of the {thing}: {x}."),
        ("file", "download", "backup", "video", "folder", "image", "database", "update", "archive", "log"),
        ("dataset", "recording", "disk image", "attachment", "export"), " (decimal prefixes)",
    ),
    Quantity(
        _prefixed("bit", "bit", "G M k -"), 1,
        ("The {thing} sends {x}.", "The {thing} carries {x} every second."),
        ("In one go the {thing} transfers {x}.",),
        ("modem", "link", "router", "sensor", "channel", "radio"), ("transmitter", "uplink", "satellite"),
    ),
    Quantity(
        _prefixed("V", "volt", "k - m"), 2,
        ("The {thing} gives {x}.", "The voltage across the {thing} is {x}."),
        ("We read {x} at the {thing}.",),
        ("battery", "cell", "sensor", "line", "circuit", "coil", "supply"), ("electrode", "probe", "generator"),
    ),
    Quantity(
        _prefixed("A", "ampere", "k - m µ"), 2,
        ("The {thing} draws {x}.", "A current of {x} flows through the {thing}."),
        ("The {thing} pulls {x} when it is on.",),
        ("motor", "chip", "lamp", "circuit", "diode", "heater", "board"), ("relay", "fuse", "pump"),
    ),
    Quantity(
        _prefixed("Ω", "ohm", "M k -"), 1,
        ("The {thing} has {x}.", "The resistance of the {thing} is {x}."),
        ("A meter shows {x} for the {thing}.",),
        ("resistor", "wire", "coil", "sensor", "track"), ("heating element", "strand", "winding"),
    ),
    Quantity(
        _prefixed("W", "watt", "G M k - m"), 2,
        ("The {thing} delivers {x}.", "The power of the {thing} is {x}."),
        ("At full load the {thing} reaches {x}.",),
        ("engine", "plant", "panel", "heater", "laser", "lamp", "turbine"), ("windmill", "stove", "amplifier"),
    ),
    Quantity(
        _prefixed("Wh", "watt-hour", "M k -"), 1,
        ("The {thing} used {x}.", "The {thing} stores {x}."),
        ("The {thing} went through {x} this week.",),
        ("battery", "house", "fridge", "office", "charger"), ("scooter", "greenhouse", "oven"),
    ),
    Quantity(
        _prefixed("Hz", "hertz", "G M k -"), 1,
        ("The {thing} runs at {x}.", "The frequency of the {thing} is {x}."),
        ("Set the {thing} to {x}.",),
        ("clock", "signal", "radio", "processor", "tone"), ("oscillator", "carrier wave", "timer"),
    ),
    Quantity(
        {"MPa": (6, "megapascal"), "bar": (5, "bar"), "kPa": (3, "kilopascal"), "mbar": (2, "millibar"),
         "hPa": (2, "hectopascal"), "Pa": (0, "pascal")}, 4,
        ("The pressure in the {thing} is {x}.", "The {thing} is under {x}.", "The gauge on the {thing} shows {x}."),
        ("Inside the {thing} there are {x}.", "Pressure of the {thing}: {x}."),
        ("tyre", "pipe", "tank", "chamber", "boiler", "pump", "hose", "valve", "cylinder"), ("compressor",
        "diving bell",
         "sealed jar"),
    ),
    Quantity(
        _prefixed("s", "second", "- m µ"), 2,
        ("The {thing} takes {x}.", "The {thing} lasts {x}."),
        ("From start to end the {thing} needs {x}.",),
        ("call", "delay", "pulse", "test", "request", "pause", "step"), ("flash", "handshake", "blink"),
    ),
)  # fmt: skip

# {x} amount with its unit, {to} symbol or name of the wanted unit, {from_unit} the given unit
TRAIN_TEMPLATES = (
    "{x} in {to}", "Convert {x} to {to}.", "How many {to} are {x}?", "What is {x} in {to}?", "{x} = ? {to}",
    "{x} to {to}", "Express {x} in {to}.", "Write {x} in {to}, number and unit only.", "Please convert {x} into {to}.",
    "{x} -> {to}", "How much is {x} in {to}?", "Change {x} to {to}",
    "Give me {x} in {to}. Answer with the number and the unit symbol.", "I need {x} in {to}.",
    "convert {x} into {to} pls", "Can you convert {x} to {to} for me? Just the result.",
    "unit conversion: {x} to {to}", "What do I get if I turn {x} into {to}?",
    "Hi, quick question: {x} is how many {to}?", "Turn {x} into {to}. Short answer with symbol.",
    "Convert to {to}: {x}", "In {to}, how much is {x}?", "to {to}: {x}", "State {x} in {to} (number, then unit).",
    "how many {to} in {x}", "Homework: rewrite {x} in {to}.", "My form asks for {to} but I have {x}. What do I enter?",
    "{x} equals how many {to}?", "Restate {x} using {to}.", "The label says {x}. What is that in {to}?",
    "Could you tell me what {x} is in {to}? Number and symbol, please.",
)  # fmt: skip
TRAIN_ASKS = (
    "How much is that in {to}?", "Convert it to {to}.", "What is this in {to}?",
    "Give it in {to}, number and symbol only.", "In {to}?", "How many {to} is that?", "Please write that in {to}.",
    "I need {to}.", "And in {to}?", "Express this in {to}.", "Answer in {to} with the unit symbol.",
    "convert to {to} please",
)  # fmt: skip
HELD_TEMPLATES = (
    "Same amount, other unit: {x} as {to}.", "Someone gave me {x}; the drawing wants {to}. Value with unit symbol?",
    "Re-express {x}, target unit {to}.", "From {from_unit} to {to}: {x}, value plus symbol only",
    "Recalculate {x} as {to}", "What value in {to} matches {x}?", "Target: {to}. Source: {x}. Result?",
    "Swap the unit of {x} for {to}, keep the quantity.",
)  # fmt: skip
HELD_ASKS = (
    "What would the reading in {to} be?", "Put that down in {to}, with its symbol.", "Which figure is it in {to}?",
    "Switch the unit to {to}.",
)  # fmt: skip

# (what a person typed, the answer)
HUMAN = (
    ("whats 5.5 km in meters", "5500 m"),
    ("hey my kid is 112 cm tall, how many meters is that? number + unit pls", "1.12 m"),
    ("The recipe wants 250 ml of milk but my jug only shows litres. so how many litres", "0.25 L"),
    ("i ran 800 m today lol whats that in km", "0.8 km"),
    ("need 1.5 l in ml asap", "1500 mL"),
    ("Doctor prescribed 0.5 g. The pills are labelled in mg. What does that make in mg? just number and unit",
     "500 mg"),
    ("how many grams r in 2.4 kilos", "2400 g"),
    ("Truck carries 7 tonnes, boss wants it in kg. Only the result please", "7000 kg"),
    ("4500 grams to kg??", "4.5 kg"),
    ("Our router does 300 Mbit per second they say. how much is 300 Mbit in Gbit", "0.3 Gbit"),
    ("my phone battery is 4 A at peak, what's 4 amps in milliamps (mA)", "4000 mA"),
    ("1013 hPa in kPa thx", "101.3 kPa"),
    ("tire pressure says 2.2 bar, the pump shows kPa. what should the pump read?", "220 kPa"),
    ("Solar panel makes 350 W. I need it in kW for the form, number and symbol only.", "0.35 kW"),
    ("The screw is 35 mm. Shop only lists cm!! how many cm", "3.5 cm"),
    ("used 12 kWh yesterday acording to the app. in Wh that is?", "12000 Wh"),
    ("whats 90 cm as mm, sorry im bad at this", "900 mm"),
    ("I've got 6 dl of cream, how much is it in litres (L)", "0.6 L"),
    ("wine bottle = 75 cl. write it in ml", "750 mL"),
    ("ping was 45 ms, what is that in seconds. answer with symbol", "0.045 s"),
    ("File is 2.5 GB, upload page counts in MB (1 GB = 1000 MB). So how many MB?", "2500 MB"),
    ("can you change 3.3 kΩ to Ω for me", "3300 Ω"),
    ("radio station on 98.5 MHz. tuner needs kHz, type it for me: number then unit", "98500 kHz"),
    ("Paper is 0.1 mm thick. and in micrometres (µm)?", "100 µm"),
)  # fmt: skip


def train(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct training questions."""
    questions: dict[str, Question] = {}
    while len(questions) < n:
        quantity = _quantity(rng)
        if rng.random() < 0.7:
            template = rng.choice(TRAIN_TEMPLATES)
        else:
            template = rng.choice(quantity.train_phrases) + " " + rng.choice(TRAIN_ASKS)
        if rng.random() < 0.25:
            template = _noise(rng, template)
        question = _ask(rng, quantity, template, quantity.train_things, held=False)
        questions.setdefault(question.prompt.casefold(), question)
    return list(questions.values())


def held_out(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct held-out questions, the hand-written ones first."""
    questions = {prompt.casefold(): Question(prompt, answer, "human") for prompt, answer in HUMAN[:n]}
    while len(questions) < n:
        quantity = _quantity(rng)
        if rng.random() < 0.7:
            template = rng.choice(HELD_TEMPLATES)
        else:
            template = rng.choice(quantity.held_phrases) + " " + rng.choice(HELD_ASKS)
        question = _ask(rng, quantity, template, quantity.held_things, held=True)
        questions.setdefault(question.prompt.casefold(), question)
    return list(questions.values())


def score(question: Question, output: str) -> bool:
    """Is the output the right number with the asked unit?"""
    right, given = _parse(question.answer), _parse(output)
    return given is not None and given == right


def _parse(text: str) -> tuple[Decimal, str] | None:
    """Read "<number> <unit>" into its value and unit symbol; None if it is anything else."""
    text = re.sub(r"```\w*", " ", text).replace("`", " ").strip().strip("\"'").strip(" .")
    match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z\u00b5\u03bc\u03a9\u2126-]+)", text)
    if match is None:
        return None
    unit = match[2].replace("\u03bc", "\u00b5").replace("\u2126", "\u03a9")
    return Decimal(match[1]), _SYMBOLS.get(unit.lower() if len(unit) > 4 else unit, unit)


def _symbols() -> dict[str, str]:
    """Map every accepted spelling of a unit to its symbol."""
    table: dict[str, str] = {}
    for quantity in QUANTITIES:
        for symbol, (_, name) in quantity.units.items():
            american = name.replace("metre", "meter").replace("litre", "liter")
            for spelling in (name, american):
                table[spelling] = table[spelling + "s"] = symbol
            table[symbol] = table[symbol.replace("µ", "u")] = table[symbol.replace("L", "l")] = symbol
            table[symbol.replace("Ω", "ohm")] = symbol
    return table


_SYMBOLS = _symbols()


def _quantity(rng: random.Random) -> Quantity:
    return rng.choices(QUANTITIES, [quantity.weight for quantity in QUANTITIES])[0]


def _ask(rng: random.Random, quantity: Quantity, template: str, things: tuple[str, ...], held: bool) -> Question:
    """Draw two units and a number, and fill the template."""
    shifts = {
        (a, b): exponent - other
        for a, (exponent, _) in quantity.units.items()
        for b, (other, _) in quantity.units.items()
        if 1 <= abs(exponent - other) <= 6
    }
    favour = {1: 3, 2: 3, 3: 8, 4: 2, 5: 2, 6: 2}
    source, target = rng.choices(list(shifts), [favour[abs(shift)] for shift in shifts.values()])[0]
    value, result = _number(rng, shifts[source, target], held)
    template = template.replace("{x}", "{x}" + quantity.note)
    style = rng.random()
    if style < 0.6:
        amount = f"{value} {source}"
    elif style < 0.75:
        amount = f"{value}{source}"
    else:
        amount = f"{value} {_name(rng, quantity, source, singular=value == '1')}"
    wanted = target if rng.random() < 0.6 else _name(rng, quantity, target)
    prompt = template.format(x=amount, to=wanted, thing=rng.choice(things), from_unit=_name(rng, quantity, source))
    return Question(prompt, f"{result} {target}")


def _name(rng: random.Random, quantity: Quantity, symbol: str, singular: bool = False) -> str:
    """Return the English name of a unit in British or American spelling."""
    name = quantity.units[symbol][1]
    if rng.random() < 0.5:
        name = name.replace("metre", "meter").replace("litre", "liter")
    return name if singular or name.endswith(("hertz", "bar")) else name + "s"


def _number(rng: random.Random, shift: int, held: bool) -> tuple[str, str]:
    """Draw a number and return it and the number `shift` places up, both written plainly; short ones are likelier."""
    length = rng.choices((1, 2, 3, 4), (30, 35, 25, 10))[0]
    while True:
        mantissa = rng.randrange(10 ** (length - 1), 10**length)
        if mantissa % 10 and (length == 1 or (mantissa % 7 == 3) == held):
            break
    pairs = [(_plain(mantissa, at), _plain(mantissa, at + shift)) for at in range(-4, 7)]
    pairs = [pair for pair in pairs if max(len(pair[0]), len(pair[1])) <= 8] or pairs
    return rng.choices(pairs, [0.6 ** (len(before) + len(after)) for before, after in pairs])[0]


def _plain(mantissa: int, exponent: int) -> str:
    return f"{Decimal(mantissa).scaleb(exponent):f}"


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
    name="units",
    summary="Convert between metric, data, electric and pressure units by a power of ten.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=24,
)
