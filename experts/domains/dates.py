"""Dates: a date in any human form, alone or inside a sentence, becomes ISO 8601 (YYYY-MM-DD).

Every date is unambiguous by its wording: the month is named, or the order of the numbers is stated, or the year comes
first. Years are 1950-2049; two-digit years stand for 1970-2029. Held-out questions have their own styles, sentences,
requests, names and places; the generated ones also their own days (every tenth day of the calendar).

The scorer drops code fences, backticks, quotes, surrounding whitespace and a trailing full stop; the rest must be the
date.
"""

import random
import re
from datetime import date, timedelta

from experts.domains.base import Domain, Question

MONTHS = (
    "January February March April May June July August September October November December"
).split()  # fmt: skip
MONTH_TYPOS = (
    "Januray Febuary Marhc Apirl May Jnue Jully Agust Septemer Octobar Novemeber Decemeber"
).split()  # fmt: skip
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()  # fmt: skip
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()  # fmt: skip
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()

# Pieces of a style: d 3, dd 03, o 3rd, ow third, m 3, mm 03, mon March, abbr Mar, abbrp Mar., y 2021, yy 21,
# yw twenty twenty-one, wd Wednesday, wda Wed.
TRAIN_STYLES = (
    "{d} {mon} {y}", "{o} {mon} {y}", "{mon} {d}, {y}", "{mon} {o}, {y}", "{mon} {o} {y}", "the {o} of {mon}, {y}",
    "the {o} of {mon} {y}", "{o} of {mon} {y}", "{d} {abbr} {y}", "{abbr} {d} {y}", "{abbr} {d}, {y}",
    "{abbrp} {d}, {y}", "{o} {abbr} {y}", "{dd}-{abbr}-{y}", "{dd}/{abbr}/{y}", "{dd} {mon} {y}", "{abbr} {d} '{yy}",
    "{d} {abbr} '{yy}", "{mon} {d}, '{yy}", "{wd}, {d} {mon} {y}", "{wd}, {mon} {d}, {y}", "{wda} {d} {abbr} {y}",
    "{wd} the {o} of {mon} {y}", "{wda}, {abbr} {o} {y}", "the {ow} of {mon} {y}", "the {ow} of {mon}, {y}",
    "{mon} the {ow}, {y}", "{mon} {ow}, {y}", "the {ow} of {mon}, {yw}", "{mon} {ow}, {yw}", "{o} of {mon} {yw}",
    "{y} {mon} {d}", "{y}, {mon} {o}", "{y}/{mm}/{dd}", "{y}.{mm}.{dd}", "{y}/{m}/{d}", "{y}-{m}-{d}",
    "{y} {abbr} {dd}", "{y}{mm}{dd} (yyyymmdd)", "{dd}/{mm}/{y} (day first)", "{d}.{m}.{y} (day first)",
    "{dd}-{mm}-{y} (day first)", "{dd}.{mm}.{y} (European style)", "{d}/{m}/{y} (European format)",
    "{dd}/{mm}/{y} (dd/mm/yyyy)", "{dd}.{mm}.{y} (dd.mm.yyyy)", "{dd}-{mm}-{y} (day-month-year)",
    "{d}/{m}/{yy} (UK style)", "{dd}/{mm}/{y} (British format)", "{dd}/{mm}/{yy} (dd/mm/yy)",
    "{d}.{m}.{yy} (day.month.year)", "{mm}/{dd}/{y} (month first)", "{m}/{d}/{y} (US style)",
    "{mm}/{dd}/{y} (US style)", "{m}/{d}/{yy} (US style)", "{mm}-{dd}-{y} (US format)", "{mm}/{dd}/{y} (mm/dd/yyyy)",
    "{m}/{d}/{y} (American format)", "{mm}/{dd}/{y} (month/day/year)", "{mm}.{dd}.{y} (month first)",
    "{mm}/{dd}/{yy} (mm/dd/yy)",
)  # fmt: skip
HELD_STYLES = (
    "{mon} {d} {y}", "{d} {mon}, {y}", "{abbr} {o}, {y}", "{mon} the {o}, {y}", "the {o} day of {mon} {y}",
    "{d}. {mon} {y}", "{d}-{mon}-{y}", "{wd} {d} {mon} {y}", "{wda}. {mon} {o}, {y}", "{o} of {abbr} '{yy}",
    "the {ow} day of {mon}, {y}", "{ow} of {mon} {y}", "{mon} the {ow} {yw}", "{y}, {d} {mon}", "{y} / {mm} / {dd}",
    "{y}-{abbr}-{dd}", "{dd}/{mm}/{y} (the day comes first)", "{d}-{m}-{y} (that is day-month-year)",
    "{dd}.{mm}.{y} (written the European way)", "{mm}/{dd}/{y} (written the American way)",
    "{m}-{d}-{y} (the month comes first)", "{m}/{d}/{y} (US order)",
)  # fmt: skip

TRAIN_REQUESTS = (
    "Convert {d} to ISO format.", "Write {d} as an ISO date.", "{d} as YYYY-MM-DD", "What is {d} in ISO 8601?",
    "Please give me {d} in the form YYYY-MM-DD.", "ISO date for {d}?", "Rewrite this date in ISO 8601: {d}",
    "Normalize the date: {d}", "Date: {d}\nISO:", "{d} -> ISO", "How do I write {d} as yyyy-mm-dd?",
    "Can you turn {d} into an ISO date? Only the date, please.", "Format {d} as year-month-day with dashes.",
    "I need {d} in ISO format, nothing else.", "Give only the ISO 8601 date: {d}", "to iso: {d}",
    "Change {d} into YYYY-MM-DD format", "Hi! My spreadsheet wants YYYY-MM-DD. What do I enter for {d}?",
    "The database column only takes ISO dates. Convert {d}.", "Standardise this date (YYYY-MM-DD): {d}",
    "hey, quick one, {d} in iso please", "Input: {d}. Output the date as YYYY-MM-DD.", "{d} in yyyy-mm-dd pls",
    "Express {d} in the ISO 8601 calendar format.", "Which ISO date is {d}?", "iso 8601 version of {d}",
    "Our form rejects '{d}'. Give me the same date as YYYY-MM-DD.",
    "Translate {d} to an ISO date, answer with the date only.", "What would {d} look like as YYYY-MM-DD?",
    "date conversion, ISO output: {d}", "I'm renaming files. {d} in ISO format?",
    "Parse {d} and print it as ISO 8601.", "Someone wrote {d}. In ISO format that is?", "Reformat: {d}",
    "Make {d} machine readable (YYYY-MM-DD).", "Could you please reformat {d} for me? ISO, no extra words.",
)  # fmt: skip
TRAIN_SENTENCES = (
    "{name} was born on {d} in {place}.", "The meeting with {name} is on {d} at {h} pm.",
    "Invoice {n} was issued on {d}.", "We moved to {place} on {d}.", "The contract ends on {d}, says {name}.",
    "{name} joined the company on {d}.", "Flight {n} to {place} leaves on {d}.",
    "Your parcel arrives on {d} between {h} and 6 pm.", "Rent is due on {d}.",
    "Dear {name}, your appointment is on {d} in room {n}.", "On {d}, {name} opened a shop in {place}.",
    "The museum in {place} reopens on {d} after repairs.", "{name} paid {n} euros on {d}.",
    "Deadline for all forms: {d}.", "The warranty of the washing machine runs out on {d}.",
    "{name} got married in {place} on {d}, with {n} guests.", "Order {n} was shipped on {d}.",
    "My passport expires on {d}.", "School starts again on {d}.",
    "The bridge in {place} was finished on {d} after {h} years of work.", "Ticket {n}, valid until {d}.",
    "Last seen in {place} on {d}.", "{name} signed the lease on {d}.", "The concert takes place on {d} in {place}.",
    "Please send {name} the report by {d}.", "Version {h} came out on {d}.", "{name} visited the dentist on {d}.",
    "The exam is on {d}, bring {h} pencils.", "Since {d}, {name} has lived in {place}.",
    "Membership {n} started on {d}.",
)  # fmt: skip
TRAIN_ASKS = (
    "What is the date in ISO format?", "Give the date as YYYY-MM-DD.", "Extract the date (ISO 8601).",
    "Which date is it? ISO format.", "Date as yyyy-mm-dd?", "Pull out the date and write it as YYYY-MM-DD.",
    "Return only the ISO date.", "When is that? Use YYYY-MM-DD.",
    "Find the date in this sentence and answer in ISO 8601.", "iso date please",
    "Only the date, in the form YYYY-MM-DD.", "Write just the date of this note, ISO style.",
    "What date is mentioned? Answer as YYYY-MM-DD.", "date -> iso", "Please extract the date, year first.",
    "Get me the date in ISO 8601.",
)  # fmt: skip
HELD_REQUESTS = (
    "Spell out {d} as an ISO calendar date.", "For my log file: {d}, in year-month-day digits.",
    "Tell me the ISO spelling of {d}.", "In a CSV I need {d} written like 1999-12-31. How?",
    "{d} - sortable form (YYYY-MM-DD)?", "Put {d} in ISO notation.", "ISO 8601, one line, for {d}",
    "A colleague noted {d}. Enter it as YYYY-MM-DD.",
)  # fmt: skip
HELD_SENTENCES = (
    "The ship left {place} on {d} with {n} people aboard.", "{name} planted this tree on {d}.",
    "Receipt {n} carries the stamp {d}.", "Grandpa {name} retired on {d} and bought a boat.",
    "The store in {place} closes for good on {d}.", "Our insurance was renewed on {d}.",
    "{name} handed in the thesis on {d}.", "Next match against {place}: {d}, kick-off {h} pm.",
)  # fmt: skip
HELD_ASKS = (
    "State the day as an ISO date.", "Which day was meant, as YYYY-MM-DD?", "Copy out the date in ISO notation.",
    "Reply with the date alone, formatted YYYY-MM-DD.", "What goes into the date field (ISO 8601)?",
)  # fmt: skip

TRAIN_NAMES = (
    "Anna Ben Carla David Emma Felix Greta Hassan Ines Jonas Katya Liam Mona Nora Oscar Paula Quentin Rosa Sam Tara "
    "Umar Vera "
    "Will Xenia Yusuf Zoe Amir Bella Chen Dora Elif Frank Gina Hugo Ida Jack Kim Lena Marco Nina Owen Petra Ravi "
    "Sofia Tom"
).split()  # fmt: skip
HELD_NAMES = "Abdul Birgit Cosmo Daphne Ezra Fiona Gustav Helga Ivan Joyce Kofi Lucia Matteo Noor Otto Priya".split()
TRAIN_PLACES = (
    "Leeds Oslo Madrid Boston Lyon Prague Lagos Cairo Denver Munich Turin Dublin Quito Seoul Perth Ghent Porto "
    "Vilnius Austin "
    "Bergen Cork Delhi Geneva Havana Izmir Kyoto Lima Malmo Nairobi Ottawa Paris Riga Split Tampa Utrecht Vienna "
    "Warsaw York"
).split()  # fmt: skip
HELD_PLACES = "Antwerp Bilbao Calgary Dakar Edinburgh Florence Graz Hobart Innsbruck Jakarta Krakow Lisbon".split()

# (what a person typed, the ISO date)
HUMAN = (
    ("whats 4th of july 1976 in iso format", "1976-07-04"),
    ("Sorry for the dumb question but how would you write Feburary 11 2013 with the dashes, year first?", "2013-02-11"),
    ("my boss wants everything yyyy-mm-dd now lol. so Sept 9 2024 is...?", "2024-09-09"),
    ("Got this email: 'see you thursday 14 november 2019 at noon, table for 6'. date in ISO only pls", "2019-11-14"),
    ("07/08/2015, and thats american so month first. iso?", "2015-07-08"),
    ("07/08/2015 - I'm in England so day first! give me the ISO date", "2015-08-07"),
    ("i was born the twenty-second of may nineteen eighty-four, put that in YYYY-MM-DD", "1984-05-22"),
    ("need iso date, its for a visa form. mum's birthday is 30 Oct 1958", "1958-10-30"),
    ("The warehouse says pallet 88 came in on Ocotber 2nd, 2020. What do I type in the ISO date field?", "2020-10-02"),
    ("dec 25 '99 iso", "1999-12-25"),
    ("can u do 1.12.2007 for me, german style (day then month). yyyy-mm-dd", "2007-12-01"),
    ('Found an old photo, on the back it says "June 6th, 1961, Brighton". Which date is that in ISO 8601?',
     "1961-06-06"),
    ("Reminder: dentist on Tuesday, March 5, 2024 3:30pm!! -> just the date as YYYY-MM-DD thanks", "2024-03-05"),
    ("29 feb 2016 iso format please and thank you", "2016-02-29"),
    ("Our lease began on the first of January, 2010 and the landlord is being difficult. Start date in ISO?",
     "2010-01-01"),
    ("31/01/98 (day/month/year) to iso", "1998-01-31"),
    ("I typed 2022/11/3 (year/month/day) and excel went mad, what is the proper ISO way?", "2022-11-03"),
    ("grandma arrives aug the 17th 2031, write as yyyy-mm-dd no other text", "2031-08-17"),
    ("Hello, please look at this line from the log: 'backup finished 18-Apr-2003 02:14'. ISO date only.", "2003-04-18"),
    ("So the wedding was on Saturday, 12th of September 1992, in Leipzig, 80 guests. ISO date?", "1992-09-12"),
    ("us format 12/03/2045, what's that in ISO 8601", "2045-12-03"),
    ("the letter is dated 'this 8th day of December, 1971'. iso pls", "1971-12-08"),
    ("Could you tell me how jan. 3rd 2000 looks as an ISO date? my script crashes on anything else", "2000-01-03"),
    ("tax thing is due 15 april 2027!!! ISO date", "2027-04-15"),
)  # fmt: skip


def train(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct training questions."""
    questions: dict[str, Question] = {}
    while len(questions) < n:
        day, text = _write(rng, TRAIN_STYLES, held=False)
        if rng.random() < 0.05:
            text = text.replace(MONTHS[day.month - 1], MONTH_TYPOS[day.month - 1])
        if rng.random() < 0.15:
            text = text.lower()
        if rng.random() < 0.5:
            template = rng.choice(TRAIN_REQUESTS)
        else:
            template = _join(rng, rng.choice(TRAIN_SENTENCES), rng.choice(TRAIN_ASKS))
        if rng.random() < 0.25:
            template = _noise(rng, template)
        prompt = _fill(rng, template, text, TRAIN_NAMES, TRAIN_PLACES)
        questions.setdefault(prompt.casefold(), Question(prompt, day.isoformat()))
    return list(questions.values())


def held_out(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct held-out questions, the hand-written ones first."""
    questions = {prompt.casefold(): Question(prompt, answer, "human") for prompt, answer in HUMAN[:n]}
    while len(questions) < n:
        day, text = _write(rng, HELD_STYLES, held=True)
        if rng.random() < 0.5:
            template = rng.choice(HELD_REQUESTS)
        else:
            template = _join(rng, rng.choice(HELD_SENTENCES), rng.choice(HELD_ASKS))
        prompt = _fill(rng, template, text, HELD_NAMES, HELD_PLACES)
        questions.setdefault(prompt.casefold(), Question(prompt, day.isoformat()))
    return list(questions.values())


def score(question: Question, output: str) -> bool:
    """Is the output the ISO date, apart from fences, quotes, whitespace and a full stop?"""
    text = re.sub(r"```\w*", " ", output).replace("`", " ").strip().strip("\"'").rstrip(".").strip("\"' ")
    return text == question.answer


def _write(rng: random.Random, styles: tuple[str, ...], held: bool) -> tuple[date, str]:
    """Draw a day of the training or held-out part of the calendar and write it in one of the styles."""
    style = rng.choice(styles)
    first, last = (date(1970, 1, 1), date(2029, 12, 31)) if "{yy}" in style else (date(1950, 1, 1), date(2049, 12, 31))
    while True:
        day = first + timedelta(days=rng.randrange((last - first).days + 1))
        if (day.toordinal() % 10 == 0) == held:
            break
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    abbr = rng.choice(("Sep", "Sept")) if month == "September" else month[:3]
    ending = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    text = style.format(
        d=day.day,
        dd=f"{day.day:02}",
        o=f"{day.day}{ending}",
        ow=ORDINALS[day.day - 1],
        m=day.month,
        mm=f"{day.month:02}",
        mon=month,
        abbr=abbr,
        abbrp=abbr if abbr == month else f"{abbr}.",
        y=day.year,
        yy=f"{day.year % 100:02}",
        yw=_year_words(rng, day.year),
        wd=weekday,
        wda=weekday[:3],
    )
    return day, text


def _year_words(rng: random.Random, year: int) -> str:
    tens, unit = divmod(year % 100, 10)
    tail = UNITS[year % 100] if year % 100 < 20 else TENS[tens] + (f"-{UNITS[unit]}" if unit else "")
    if year < 2000:
        return f"nineteen {tail}"
    if year < 2010:
        return "two thousand" if year == 2000 else f"two thousand and {tail}"
    return rng.choice(("twenty {}", "two thousand and {}")).format(tail)


def _join(rng: random.Random, sentence: str, ask: str) -> str:
    """Put the request before or after the sentence that holds the date."""
    form = rng.choice(("{s} {a}", "{s}\n{a}", "{a} {s}", "{a}\n{s}", '{a} "{s}"', '"{s}" {a}'))
    return form.replace("{s}", sentence).replace("{a}", ask)


def _fill(rng: random.Random, template: str, text: str, names: list[str], places: list[str]) -> str:
    name, place = rng.choice(names), rng.choice(places)
    return template.format(d=text, name=name, place=place, n=rng.randrange(13, 400), h=rng.randrange(2, 6))


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
    name="dates",
    summary="Write a date in any human form as ISO 8601, or pull it out of a sentence.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=16,
)
