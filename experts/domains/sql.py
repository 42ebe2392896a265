"""A schema of one table and a question in English -> one SQLite SELECT.

Conventions: keywords in upper case, no alias, no semicolon, ``ASC`` and ``DESC`` written out; selected columns in the
order of the question; no column named means ``SELECT *``; "top n by x" is ``ORDER BY x DESC LIMIT n``; a group by
selects the group first, then the figure; text is compared as typed; "contains" is ``LIKE '%x%'``, "starts with" is
``LIKE 'x%'``; "over" and "under" exclude the bound, "at least", "at most" and "between" include it; dates are ISO text.

The scorer strips code fences and a semicolon and executes both queries on in-memory databases: the table of
``check["create"]``, filled with rows around the literals of the right query. Equal results are right (in order if the
right query has ORDER BY, in any order otherwise). Anything but one SELECT, or one that runs too long, is wrong.
"""

import random
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace

from experts.domains.base import Domain, Question

# Tables: name: columns. A column not in NUMBERS or DATES is text.
TRAIN_TABLES = """customers: id name email city country age signup_date
employees: id name department salary age hire_date city
products: id title category price stock brand weight
orders: id customer product quantity total status order_date
books: id title author genre pages price publish_year
movies: id title director genre rating duration release_year
students: id name grade age school city
cars: id brand model color price mileage build_year
flights: id airline origin destination price duration seats
hotels: id name city country stars price_per_night rooms
invoices: id customer amount status due_date currency
songs: id title artist album genre duration plays
players: id name team position goals age salary
courses: id title teacher department credits seats
patients: id name age city doctor admission_date weight
houses: id city bedrooms price area build_year owner
tickets: id subject priority status assignee created_at
events: id title city venue price capacity event_date
restaurants: id name cuisine city rating seats
recipes: id title cuisine calories minutes author
animals: id name species age weight color
projects: id title client budget status start_date
suppliers: id name country city rating phone
payments: id customer amount method payment_date status
reviews: id product author rating review_date likes
ships: id name owner country length capacity build_year
airports: id name city country runways passengers
artists: id name country genre albums birth_year
computers: id brand model price memory weight
shipments: id carrier destination weight status ship_date
teams: id name city coach wins losses points
apartments: id city owner rent area floor bedrooms
stores: id name city manager revenue employees
rooms: id building floor capacity status price_per_night
phones: id brand model color price memory stock
teachers: id name subject school salary age
plants: id name color height price species
trips: id driver city distance duration trip_date
loans: id customer amount interest status start_date
members: id name email city membership points join_date
items: id title category price quantity supplier
users: id name email country age points created_at
subscriptions: id customer membership price status start_date
sales: id product seller region amount quantity sale_date
machines: id model building status hours temperature
bikes: id brand model color price weight
exams: id student course score exam_date
countries: id name continent population area
mountains: id name country height continent
order_items: id product quantity price discount
bank_accounts: id owner balance currency status
job_offers: id title company city salary category""".split("\n")
HELD_TABLES = """clients: id name email city industry revenue
staff_members: id name department salary hire_date age
albums: id title artist genre tracks price
laptops: id brand model price memory color
parcels: id carrier destination weight status ship_date
museums: id name city country visitors ticket_price
wines: id title region grape price stock
horses: id name owner color age wins
concerts: id artist venue city price event_date
tasks: id title assignee priority status hours
podcasts: id title host genre duration subscribers
cameras: id brand model price weight stock
farms: id owner region area animals
deliveries: id driver city distance status delivery_date
gyms: id name city members monthly_fee""".split("\n")
NUMBERS: dict[str, tuple[int, int]] = {
    **dict.fromkeys("age area minutes score duration points hours".split(), (18, 80)),
    **dict.fromkeys("price weight amount stock total pages seats length capacity plays distance".split(), (10, 900)),
    **dict.fromkeys("quantity goals rooms wins losses likes credits albums floor discount tracks".split(), (2, 40)),
    **dict.fromkeys("price_per_night height calories memory employees temperature animals".split(), (20, 400)),
    **dict.fromkeys("salary mileage budget revenue population balance rent passengers".split(), (1500, 90000)),
    **dict.fromkeys("publish_year release_year build_year birth_year".split(), (1950, 2024)),
    **dict.fromkeys("rating stars bedrooms runways grade interest".split(), (1, 6)),
    **dict.fromkeys("id visitors ticket_price subscribers members monthly_fee".split(), (15, 5000)),
}
DATES = frozenset(
    "signup_date hire_date order_date due_date admission_date created_at event_date start_date payment_date "
    "review_date ship_date trip_date join_date sale_date exam_date delivery_date".split()
)


def _pools(text: str) -> dict[str, list[str]]:
    """Lines of "column column: value, value" as values by column."""
    found = {}
    for line in text.split("\n"):
        columns, values = line.split(": ")
        found.update({column: values.split(", ") for column in columns.split()})
    return found


TRAIN_VALUES = _pools("""\
city origin destination: Berlin, Paris, Madrid, Rome, Vienna, Oslo, Lisbon, Warsaw, Prague, Dublin, Chicago, \
Boston, Denver, Toronto, Tokyo, Osaka, Lima, Cairo, Athens, Munich, Hamburg, Milan, Zurich, Helsinki, New York
country: Germany, France, Spain, Italy, Austria, Norway, Portugal, Poland, Ireland, Canada, Japan, Peru, Egypt, \
Greece, India
name customer author director teacher doctor owner assignee client artist coach manager driver seller student: \
Anna Schmidt, John Miller, Maria Lopez, Peter Novak, Emma Brown, Lucas Meyer, Sofia Rossi, David Kim, Laura \
Weber, Omar Haddad, Nina Berg, Tom Baker, Julia Costa, Ivan Petrov, Clara Jensen, Miller, Smith, Garcia, Tanaka, \
Anna, Paul, Olga, Henry, Zoe, Marco
department: Sales, Marketing, Finance, Engineering, Support, Legal, Research, HR, Physics, History
category: electronics, toys, furniture, garden, sports, clothing, office, kitchen, beauty, tools
genre: rock, jazz, drama, comedy, horror, fantasy, thriller, pop, classical, romance, western, blues
brand: Acme, Nordica, Zenith, Toyota, Volvo, Samsung, Lenovo, Canyon, Bosch, Fiat, Honda
status: open, closed, pending, shipped, cancelled, paid, active, overdue, draft, refunded, archived
color: red, blue, green, black, white, silver, yellow, brown, grey, orange
priority: high, low, medium, urgent, critical
cuisine: Italian, Thai, Mexican, Indian, Greek, Japanese, French, Turkish
species: dog, cat, parrot, rabbit, oak, fern, rose
currency: EUR, USD, GBP, CHF, JPY
school team company carrier supplier airline album venue building: Northside, Eagles, Delta, Riverside, Globex, \
Lions, Swift, Skyline, Central, Hilltop, Initech, Rockets, Harbor, Aurora, Sunrise, Westpark
continent region: Europe, Asia, Africa, North, South, East, West, Oceania
method: card, cash, paypal, transfer, invoice
membership: gold, silver, basic, premium, trial, student
position: goalkeeper, defender, striker, midfielder
model product title subject course email phone: Pro, Max, Classic, Lamp, Chair, Star, River, Math, Garden, \
Night, Blue, gmail, web, Light, Story, Desk, Phone, Music, World, Basic""")
HELD_VALUES = _pools("""\
city destination: Bristol, Seville, Krakow, Seattle, Kyoto, Ghent, Bogota, Porto
country: Sweden, Brazil, Kenya, Chile, Turkey
name artist assignee owner host driver: Felix Wagner, Ruth Adams, Hugo, Ines Vidal, Okafor, Lindqvist
department industry: Logistics, Design, Procurement, Banking, Textiles
genre: techno, folk, crime, soul, opera
brand: Dell, Nikon, Asus, Leica
status: delayed, finished, blocked, delivered
color: purple, chestnut, golden, pink
priority: normal, minor, severe
carrier venue: Parcelo, Arena Nova, Redline, Valley
region grape: Tuscany, Rioja, Merlot, Riesling, Alsace
model title email: Ultra, Moon, Winter, proton, Echo""")

SCHEMAS = (  # how a schema is written: {t} the table; {c} columns; {ct} columns with types
    "CREATE TABLE {t} ({ct});",
    "CREATE TABLE {t} ({ct})",
    "create table {t} ({ctl});",
    "CREATE TABLE {t} (\n  {ctn}\n);",
    "{t}({c})",
    "{t} ({c})",
    "{t}({ctl})",
    "Table {t}: {c}",
    "Table: {t}\nColumns: {c}",
    "table {t} with columns {c}",
    "{t}: {c}",
    "table={t}, columns={c}",
)
HELD_SCHEMAS = ("CREATE TABLE {t} ({ct});", "{t}({c})", "{t} [{c}]", "Table `{t}` has the columns {c}.", "{t} | {c}")
TRAIN_TEMPLATES = r"""{schema}\n{q}|{schema}\n\n{q}|{schema} {q}|Schema: {schema}\nQuestion: {q}
Schema: {schema}\nQuestion: {q}\nSQL:|{schema}\nWrite a SQL query: {q}|{q}\n\n{schema}
Given {schema}, write SQL for: {q}|{schema}\nQuery: {q}|-- {schema}\n-- {q}
Write one SQLite query for this.\n{schema}\n{q}|Translate to SQL.\n{schema}\n{q}
{schema}\nSQL for: {q}|{q} Use {schema}|Answer with the SQL only.\n{schema}\n{q}
I have this table: {schema}\n{q}|My table: {schema}. {q}|{q} The table is {schema}
Here is my schema:\n{schema}\nI need the query for this: {q}|{schema}\n{q} Only give the SQL.
sql please: {q} {schema}|Hi, can you help me with a query? {schema}\n{q}
We store our data like this: {schema}\n{q} Just the query, please.|database: {schema}\nrequest: {q}
Q: {q}\nSchema: {schema}\nA:|{schema}\n\nSELECT statement for "{q}"|With the table {schema}, {q}""".replace("\n", "|")
HELD_TEMPLATES = r"""For {schema} give the SELECT for this: {q}|DB layout\n{schema}\nTask: {q}|{q}\n(we have {schema})
Our intern set up {schema}. {q} Send only SQL.|{schema}\n=> {q}|SQLite. {schema}. {q}
User request: {q}\nDefinition: {schema}|Turn the request into SQL.\n{schema}\nRequest: {q}
Look at {schema}. {q}|Data model: {schema}. Wanted: {q}
Statement needed, sqlite dialect. {q} Structure: {schema}|{schema}\n\nWhat is the SQL? {q}""".replace("\n", "|")

# Questions by kind. {T} things, {W} condition (with a space before it, or empty), {C} columns, {x} a number column,
# {g} a group column, {n} a count, {S} a superlative with its column, {D} a direction.
TRAIN_QUESTIONS = {
    "all": "Show all {T}{W}.|List all {T}{W}|Get every row of {t}{W}.|Find {T}{W}.|Which {T} are there{W}?"
    "|Give me all {T}{W}"
    "|Select everything from {t}{W}.|I need the {T}{W}.|all {T}{W}|Show me the {T}{W} please."
    "|Return the full rows of {T}{W}."
    "|Can you find all {T}{W}?|I am looking for {T}{W}.",
    "columns": "Show the {C} of all {T}{W}.|List {C} of {T}{W}|Get the {C} for {T}{W}.|What are the {C} of {T}{W}?"
    "|{C} of {T}{W}"
    "|Give me the {C} of every one of the {T}{W}.|Show {C} from {t}{W}.|I want to see the {C} of {T}{W}."
    "|Find the {C} of the {T}{W}."
    "|Select {C} for all {T}{W}.|Please return the {C} of {T}{W}.|For {T}{W}, show the {C}.|I need {C} for all {T}{W}",
    "count": "How many {T} are there{W}?|Count the {T}{W}.|Number of {T}{W}|What is the number of {T}{W}?"
    "|How many {T} do we have{W}?"
    "|Give me the count of {T}{W}.|count {T}{W}|Find out how many {T}{W} exist.|Tell me how many {T} there are{W}."
    "|What is the total number of {T}{W}?",
    "figure": "What is the {F} of {T}{W}?|{F} of all {T}{W}|Calculate the {F} for {T}{W}.|Find the {F} of the {T}{W}."
    "|Show the {F} of {T}{W}"
    "|I need the {F} of all {T}{W}.|Get the {F} among {T}{W}.|For {T}{W}, what is the {F}?"
    "|compute {F} of {T}{W}|Tell me the {F} of our {T}{W}",
    "count_by": "How many {T} are there per {g}{W}?|Count the {T} by {g}{W}.|Number of {T} for each {g}{W}"
    "|Show the number of {T} per {g}{W}."
    "|Count {T} grouped by {g}{W}|For each {g}, how many {T} are there{W}?|How many {T} does each {g} have{W}?",
    "figure_by": "What is the {F} of {T} per {g}{W}?|{F} by {g}{W}|Show the {F} of {T} for each {g}{W}."
    "|For each {g}, find the {F} of {T}{W}."
    "|Get the {F} grouped by {g}{W}|List each {g} with the {F} of its {T}{W}.|{F} of {T} by {g}{W}",
    "top": "Show the {n} {T} with the {S}{W}.|Which {n} {T} have the {S}{W}?|Find the {n} {T} with the {S}{W}"
    "|Get the {n} {T} with the {S}{W}."
    "|Give me the {n} {T} that have the {S}{W}.",
    "top_columns": "Show the {C} of the {n} {T} with the {S}{W}.|{C} of the {n} {T} with the {S}{W}"
    "|What are the {C} of the {n} {T} with the {S}{W}?"
    "|List {C} for the {n} {T} with the {S}{W}",
    "top_one": "Which of the {T} has the {S}{W}?|Show the one of the {T} with the {S}{W}|Find the {T1} with the {S}{W}."
    "|Which {T1} has the {S}{W}?|the {T1} with the {S}{W}",
    "one_column": "What is the {c} of the {T1} with the {S}{W}?|{c} of the {T1} with the {S}{W}"
    "|Give me the {c} of the {T1} with the {S}{W}.",
    "sorted": "Show all {T}{W} sorted by {x} {D}.|List the {T}{W} ordered by {x}, {D}|Sort the {T}{W} by {x} {D}."
    "|all {T}{W}, order by {x} {D}"
    "|Order {T}{W} by {x} {D}",
    "sorted_columns": "Show the {C} of {T}{W} sorted by {x} {D}.|List {C} of all {T}{W}, ordered by {x} {D}"
    "|Get {C} of {T}{W}, sort by {x} {D}."
    "|{C} of {T}{W} in order of {x}, {D}",
    "distinct": "Which different {gs} occur in {t}{W}?|List the distinct {gs} of {T}{W}."
    "|What {gs} are there among the {T}{W}?"
    "|Show all unique {gs} of the {T}{W}|List every {g} once, for {T}{W}|distinct {gs} of {T}{W}",
    "most": "Which {g} has the most {T}{W}?|Find the {g} with the most {T}{W}."
    "|What is the {g} with the largest number of {T}{W}?",
}
HELD_QUESTIONS = {
    "all": "Pull up {T}{W}, complete rows.|Fetch {T}{W}.|Any {T}{W}? List them all.|Let me see our {T}{W}",
    "columns": "Display {C} of those {T}{W}.|I would like to know the {C} of our {T}{W}.|Fetch {C} of {T}{W}",
    "count": "How large is the number of {T}{W}?|Tally the {T}{W}|I'd like a count of our {T}{W}.",
    "figure": "Our boss asks for the {F} of {T}{W}.|Work out the {F} across {T}{W}|How much is the {F} of {T}{W}?",
    "count_by": "Break down the number of {T} by {g}{W}.|Tally {T} for every {g}{W}",
    "figure_by": "Break down the {F} of {T} by {g}{W}.|Work out the {F} for every {g}{W}",
    "top": "Fetch the {n} {T} having the {S}{W}.|I would like the {n} {T} with the {S}{W}",
    "top_columns": "Display {C} of the {n} {T} having the {S}{W}.|Fetch {C} of those {n} {T} with the {S}{W}",
    "one_column": "Tell me the {c} of the {T1} that has the {S}{W}.",
    "sorted": "Fetch {T}{W} and sort them by {x}, {D}.|Put the {T}{W} in order by {x} {D}",
    "sorted_columns": "Display {C} of our {T}{W} and sort by {x} {D}",
    "distinct": "Name the unique {gs} found in {t}{W}.|Fetch the distinct {gs} of our {T}{W}",
    "most": "Tell me the {g} that has the most {T}{W}",
}
WEIGHTS = {
    "all": 14,
    "columns": 20,
    "count": 11,
    "figure": 13,
    "count_by": 7,
    "figure_by": 7,
    "top": 6,
    "top_columns": 6,
}
CHATTER = (
    "I am new to SQL.|My boss needs this today.|It is for a report.|Hope that is clear.|Sorry for the trouble."
    "|Thanks in advance!|I keep getting errors.|We are preparing a meeting.|I inherited this database.|Good morning!"
    "|Quick question.|Nothing fancy.|It's for a dashboard.|A colleague asked me for it.|Thank you"
    "|I forgot how this works."
).split("|")
# Conditions: {c} column, {v} value. The key is the operator.
TRAIN_PHRASES = {
    "=": "with {c} {v}|whose {c} is {v}|where {c} is {v}|where the {c} equals {v}|with {v} as {c}|that have {c} {v}"
    "|where {c} = {v}",
    "!=": "whose {c} is not {v}|where {c} is not {v}|where the {c} is different from {v}",
    ">": "with {c} over {v}|whose {c} is above {v}|with a {c} greater than {v}|where {c} is more than {v}"
    "|with {c} > {v}|with more than {v} {c}"
    "|where the {c} is higher than {v}|with {c} larger than {v}|whose {c} exceeds {v}|with a {c} above {v}",
    "<": "with {c} under {v}|whose {c} is below {v}|with a {c} less than {v}|where {c} is less than {v}"
    "|with {c} < {v}|with fewer than {v} {c}"
    "|where the {c} is lower than {v}|with {c} smaller than {v}|with a {c} of less than {v}",
    ">=": "with {c} of at least {v}|whose {c} is at least {v}|with at least {v} {c}|with {c} {v} or more"
    "|where {c} >= {v}",
    "<=": "with {c} of at most {v}|whose {c} is at most {v}|with at most {v} {c}|with {c} {v} or less|where {c} <= {v}",
    "after": "with {c} after {v}|whose {c} is after {v}|where the {c} is later than {v}|with a {c} later than {v}",
    "before": "with {c} before {v}|whose {c} is before {v}|where the {c} is earlier than {v}"
    "|with a {c} earlier than {v}",
    "between": "with {c} between {v} and {w}|whose {c} is between {v} and {w}|where {c} is from {v} to {w}"
    "|with a {c} from {v} to {w}",
    "has": "whose {c} contains {v}|with {v} in the {c}|where {c} contains {v}|with a {c} like {v}"
    "|whose {c} includes {v}"
    "|that have {v} in their {c}|with a {c} containing {v}",
    "starts": "whose {c} starts with {v}|with a {c} starting with {v}|where {c} begins with {v}",
    "place": "from {v}|in {v}|located in {v}|from {v}|based in {v}",
}
HELD_PHRASES = {
    "=": "having {c} {v}|for which {c} is {v}",
    "!=": "for which {c} isn't {v}",
    ">": "having a {c} over {v}|for which {c} is greater than {v}",
    "<": "having a {c} under {v}|for which {c} is less than {v}",
    ">=": "having a {c} of at least {v}",
    "<=": "having a {c} of at most {v}",
    "after": "having a {c} after {v}",
    "before": "having a {c} before {v}",
    "between": "having a {c} between {v} and {w}",
    "has": "having {v} in the {c}|for which {c} contains {v}",
    "starts": "for which {c} starts with {v}",
    "place": "in {v}|from {v}",
}
# Column-specific wordings of > and <, and of the superlatives (shared: they are the words of the language).
COMPARE = {
    "age": ("older than", "younger than", "oldest", "youngest"),
    "price": (
        "more expensive than|that cost more than",
        "cheaper than|that cost less than",
        "most expensive",
        "cheapest",
    ),
    "weight": ("heavier than|that weigh more than", "lighter than|that weigh less than", "heaviest", "lightest"),
    "salary": (
        "that earn more than|earning more than",
        "that earn less than|earning less than",
        "best paid",
        "worst paid",
    ),
    "height": ("taller than|higher than", "lower than", "tallest", "lowest"),
    "length": ("longer than", "shorter than", "longest", "shortest"),
    "duration": ("longer than|that last more than", "shorter than|that last less than", "longest", "shortest"),
}
FIGURES = {
    "AVG": "average|mean|avg",
    "SUM": "total|sum of|sum of the",
    "MAX": "highest|maximum|max|largest",
    "MIN": "lowest|minimum|min|smallest",
}
HELD_FIGURES = {"AVG": "average|mean", "SUM": "summed|sum of", "MAX": "maximum|biggest", "MIN": "minimum|smallest"}
PLACES = ("city", "country", "region", "continent")
ADJECTIVES = ("status", "color", "genre", "cuisine", "priority", "brand")


@dataclass(frozen=True)
class Source:
    """The material of one side (training or held-out) of the split."""

    templates: list[str]
    schemas: tuple[str, ...]
    questions: dict[str, str]
    phrases: dict[str, str]
    figures: dict[str, str]
    tables: list[str]
    values: dict[str, list[str]]
    train: bool


TRAIN = Source(
    TRAIN_TEMPLATES.split("|"), SCHEMAS, TRAIN_QUESTIONS, TRAIN_PHRASES, FIGURES, TRAIN_TABLES, TRAIN_VALUES, True
)
HELD = Source(
    HELD_TEMPLATES.split("|"), HELD_SCHEMAS, HELD_QUESTIONS, HELD_PHRASES, HELD_FIGURES, HELD_TABLES, HELD_VALUES, False
)


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _singular(word: str) -> str:
    if word.endswith("ies") and word != "movies":
        return word[:-3] + "y"
    return word[:-1]


def _said(column: str) -> str:
    return column.replace("_", " ")


def _shown(rng: random.Random, column: str) -> str:
    """A selected column as a person names it: "signup date", "names" or the column itself."""
    if rng.random() < 0.1:
        return column
    return _plural(_said(column)) if column != "id" and column[-1] != "s" and rng.random() < 0.3 else _said(column)


def _kind(column: str) -> str:
    return "number" if column in NUMBERS else "date" if column in DATES else "text"


def _number(rng: random.Random, column: str) -> int:
    low, high = NUMBERS[column]
    step = 1 if high < 100 or low == 1950 else 5 if high <= 900 else 500
    return max(low, rng.randint(low, high) // step * step)


def _date(rng: random.Random) -> str:
    return f"{rng.randint(2018, 2024)}-{rng.randint(1, 12):02d}-{rng.choice((1, 1, 15, rng.randint(2, 28))):02d}"


def _condition(rng: random.Random, source: Source, column: str) -> tuple[str, str]:
    """One condition on a column, in English (following the noun) and in SQL."""
    word = column if rng.random() < 0.1 else _said(column)
    kind = _kind(column)
    if kind == "text":
        value = rng.choice(source.values[column])
        value = value.lower() if rng.random() < 0.12 else value
        shown = rng.choice((value, value, value, f"'{value}'", f'"{value}"'))
        free = column in ("title", "subject", "model", "email", "phone", "product", "course")
        operator = rng.choices(("=", "!=", "has", "starts"), (0, 0, 70, 30) if free else (80, 6, 9, 5))[0]
        if operator == "starts" and len(value) > 5 and rng.random() < 0.5:
            value = shown = value[: rng.choice((1, 2))]
        name = "place" if column in PLACES and operator == "=" and rng.random() < 0.6 else operator
        phrase = rng.choice(source.phrases[name].split("|")).format(c=word, v=shown)
        pattern = {"has": f"LIKE '%{value}%'", "starts": f"LIKE '{value}%'"}
        return phrase, f"{column} {pattern.get(operator, f'{operator} ' + repr(value))}"
    if kind == "date":
        operator = rng.choice(("after", "before", "between", "="))
        first, last = sorted((_date(rng), _date(rng)))
        quote, sign = "'", {"after": ">", "before": "<", "=": "="}
    else:
        operator = rng.choices((">", "<", ">=", "<=", "between", "="), (32, 28, 9, 7, 12, 12))[0]
        low, high = sorted((_number(rng, column), _number(rng, column)))
        first, last = str(low), str(high if high > low else high + 1)
        quote, sign = "", {operator: operator}
    if operator in (">", "<") and column in COMPARE and rng.random() < 0.5:
        wording = rng.choice(COMPARE[column][operator == "<"].split("|")) + " {v}"
    else:
        wording = rng.choice(source.phrases[operator].split("|"))
    if operator in (">", "<", ">=", "<=") and "{v} {c}" in wording and not word.endswith("s"):
        wording = "with {c} " + operator + " {v}" if source.train else "having {c} " + operator + " {v}"
    phrase = wording.format(c=word, v=first, w=last)
    if operator == "between":
        return phrase, f"{column} BETWEEN {quote}{first}{quote} AND {quote}{last}{quote}"
    return phrase, f"{column} {sign[operator]} {quote}{first}{quote}"


def _conditions(rng: random.Random, source: Source, columns: list[str], always: bool) -> tuple[str, str]:
    """None, one or two conditions: English with a space before it, SQL with WHERE."""
    many = rng.choices((0, 1, 2), (0 if always else 40, 62, 24))[0]
    if not many:
        return "", ""
    chosen = rng.sample(columns, min(many, len(columns)))
    if len(chosen) == 1:
        phrase, sql = _condition(rng, source, chosen[0])
        place = re.fullmatch(r"(\w+) = '(.*)'", sql)
        if place and _kind(chosen[0]) == "text" and rng.random() < 0.12 and phrase.endswith(place[2]):
            other = rng.choice([value for value in source.values[chosen[0]] if value != place[2]])
            return f" {phrase} or {other}", f" WHERE {sql} OR {chosen[0]} = '{other}'"
        return f" {phrase}", f" WHERE {sql}"
    (phrase1, sql1), (phrase2, sql2) = (_condition(rng, source, column) for column in chosen)
    word = rng.choice(("and", "and", "or"))
    if word == "and" and "between" not in phrase1 + phrase2 and rng.random() < 0.2:
        return f" {phrase1}, {phrase2}", f" WHERE {sql1} AND {sql2}"
    return f" {phrase1} {word} {phrase2}", f" WHERE {sql1} {word.upper()} {sql2}"


def _list(rng: random.Random, words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + rng.choice((" and ", " and ", ", ")) + words[-1]


def _noise(rng: random.Random, template: str) -> str:
    """Lower-case, drop punctuation or swap two letters of a long word, outside the slots."""
    pieces = re.split(r"(\{\w+\})", template)
    how = rng.randrange(3)
    for i, piece in enumerate(pieces):
        if not piece.startswith("{"):
            piece = piece.lower() if how != 1 else piece
            piece = re.sub(r"[?.!](?=\s|$)", "", piece) if how != 2 else piece
            pieces[i] = re.sub(
                r"\b([a-z])([a-z])([a-z])([a-z]{3,})", r"\1\3\2\4" if how == 2 else r"\g<0>", piece, count=1
            )
    return "".join(pieces)


def _question(rng: random.Random, source: Source) -> Question:
    table, names = rng.choice(source.tables).split(": ")
    columns = names.split()
    if not {"age", "email", "salary", "birth_year"} & set(columns):  # the names of things
        source = replace(source, values={**source.values, "name": source.values["title"]})
    keep = rng.randint(4, min(6, len(columns)))
    columns = [columns[0]] + [columns[i] for i in sorted(rng.sample(range(1, len(columns)), keep - 1))]
    columns = columns[rng.random() < 0.2 :]
    texts = [c for c in columns if _kind(c) == "text"]
    figures = [c for c in columns if _kind(c) == "number" and c != "id"]
    groups = [c for c in texts if c not in ("title", "name", "email", "phone", "subject")]
    kinds = [
        k
        for k in source.questions
        if (figures or k in ("all", "columns", "count")) and (groups or k not in ("most", "distinct"))
    ]
    kinds = [k for k in kinds if groups or not k.endswith("_by")]
    kind = rng.choices(kinds, [WEIGHTS.get(k, 4) for k in kinds])[0]
    x, g = rng.choice(figures or columns), rng.choice(groups or columns)
    chosen = rng.sample(columns, rng.choice((1, 1, 2, 2, 2, 3)))
    c = rng.choice([column for column in columns if column != x])
    used = {g} if kind.endswith("_by") or kind in ("most", "distinct") else set()
    used |= {x} if kind.startswith(("figure", "top", "one")) else set()
    free = [column for column in columns if column not in used and column != "id"]
    phrase, where = _conditions(rng, source, free, kind == "all") if free else ("", "")
    question = rng.choice(source.questions[kind].split("|"))
    things = _said(table)
    if source.train and kind not in ("top_one", "one_column", "most") and rng.random() < 0.1:
        things = rng.choice(("records", "entries", "rows", "people" if {"age", "email"} & set(columns) else "entries"))
    adjectives = [column for column in free if column in ADJECTIVES]
    if adjectives and "{T" in question and not phrase.count(" ") > 6 and "OR" not in where and rng.random() < 0.3:
        column = rng.choice(adjectives)
        if f"{column} " not in where:
            value = rng.choice(source.values[column])
            things = f"{value} priority {things}" if column == "priority" else f"{value} {things}"
            where = f" WHERE {column} = '{value}'" + where.replace(" WHERE ", " AND ")
    descending = rng.random() < 0.6
    n, order = rng.choice((2, 3, 3, 5, 5, 10, 10, 15, 20)), f" ORDER BY {x}{' DESC' if descending else ' ASC'}"
    superlative = rng.choice(("highest", "largest") if descending else ("lowest", "smallest")) + " " + _said(x)
    figure = rng.choice([name for name in FIGURES if name != "SUM" or not x.endswith(("year", "rating", "age"))])
    figure_word = f"{rng.choice(source.figures[figure].split('|'))} {_said(x)}"
    direction = (
        ("descending", "from high to low", "in descending order") if descending else ("ascending", "from low to high")
    )
    if kind in ("top", "top_columns", "top_one", "one_column") and x in COMPARE and rng.random() < 0.4:
        word = COMPARE[x][2 if descending else 3]
        question = re.sub(r"\{(T1?)\} [^{]*\{S\}", rf"{word} {{\1}}", question)
    if source.train and rng.random() < 0.2:
        question = _noise(rng, question)
    selected, lists = ", ".join(chosen), "columns" in kind
    if "_by" in kind or "Which {T} are there" in question or re.match(r"(?i)how many|for each", question):
        phrase = phrase.replace(" that have ", " with ")
    text = question.format(
        T=things,
        T1=_singular(things),
        W=phrase,
        C=_list(rng, [_shown(rng, column) for column in chosen]),
        c=_said(c),
        x=_said(x),
        g=_said(g),
        gs=_plural(_said(g)),
        n=n,
        t=table,
        S=superlative,
        D=rng.choice(direction),
        F=figure_word,
    )
    head = {
        "all": "*",
        "top": "*",
        "top_one": "*",
        "sorted": "*",
        "count": "COUNT(*)",
        "figure": f"{figure}({x})",
        "one_column": c,
    }
    tails = {"top": f"{order} LIMIT {n}", "top_columns": f"{order} LIMIT {n}", "sorted": order, "sorted_columns": order}
    tails |= {
        "top_one": f"{order} LIMIT 1",
        "one_column": f"{order} LIMIT 1",
        "most": f" GROUP BY {g} ORDER BY COUNT(*) DESC LIMIT 1",
    }
    tails |= {"count_by": f" GROUP BY {g}", "figure_by": f" GROUP BY {g}"}
    head |= {"count_by": f"{g}, COUNT(*)", "figure_by": f"{g}, {figure}({x})", "distinct": f"DISTINCT {g}", "most": g}
    sql = f"SELECT {selected if lists else head[kind]} FROM {table}{where}{tails.get(kind, '')}"
    types = {"number": "INTEGER", "date": "DATE", "text": "TEXT"}
    typed = [f"{column} {types[_kind(column)]}" for column in columns]
    schema = rng.choice(source.schemas).format(
        t=table, c=", ".join(columns), ct=", ".join(typed), ctl=", ".join(typed).lower(), ctn=",\n  ".join(typed)
    )
    template = rng.choice(source.templates).replace("\\n", "\n")
    if source.train and rng.random() < 0.1:
        template = _noise(rng, template)
    text = text[0].upper() + text[1:] if rng.random() < 0.5 and text[0] == question[0] else text
    if source.train and rng.random() < 0.12:
        chatter = rng.choice(CHATTER)
        text = f"{chatter} {text}" if rng.random() < 0.6 else f"{text.rstrip('.')}. {chatter}"
    if not schema.endswith((")", ";")):
        template = re.sub(r"\{schema\},? (?=\S)", "{schema}\n", template)
    prompt = (
        template.format(schema=schema, q=text)
        .replace("table table", "table")
        .replace(");.", ");")
        .replace(");,", "),")
        .replace("..", ".")
    )
    return Question(prompt, sql, check={"create": f"CREATE TABLE {table} ({', '.join(typed)})"})


HUMAN_TABLES = (
    "CREATE TABLE customers (id INTEGER, name TEXT, city TEXT, age INTEGER, signup_date DATE)",
    "CREATE TABLE products (id INTEGER, title TEXT, category TEXT, price REAL, stock INTEGER)",
    "CREATE TABLE staff (id INTEGER, name TEXT, department TEXT, salary INTEGER, hire_date DATE)",
    "CREATE TABLE pets (name TEXT, species TEXT, age INTEGER, owner TEXT)",
    "CREATE TABLE orders (id INTEGER, customer TEXT, total REAL, status TEXT, order_date DATE)",
    "CREATE TABLE films (title TEXT, director TEXT, year INTEGER, rating REAL, genre TEXT)",
)
# Prompt and right query in turn; {create} the CREATE TABLE of the query's table, ~ a new line.
HUMAN_LINES = """{create};~~how many customers do we have from berlin
SELECT COUNT(*) FROM customers WHERE city = 'berlin'
customers(id, name, city, age, signup_date)~names of people older than 65 pls
SELECT name FROM customers WHERE age > 65
So I have customers(id, name, city, age, signup_date) and marketing wants the average age per city. sql?
SELECT city, AVG(age) FROM customers GROUP BY city
table customers: id, name, city, age, signup_date~~name and city for everybody with a signup date after 2023-06-30
SELECT name, city FROM customers WHERE signup_date > '2023-06-30'
{create}~whos the youngest customer? whole row
SELECT * FROM customers ORDER BY age ASC LIMIT 1
products(id, title, category, price, stock)~gimme the 5 most expensive products
SELECT * FROM products ORDER BY price DESC LIMIT 5
{create};~We're nearly sold out of some things. Title and stock where stock is under 10, please!
SELECT title, stock FROM products WHERE stock < 10
products: id, title, category, price, stock. titles that contain the word bike
SELECT title FROM products WHERE title LIKE '%bike%'
{create}~~whats the cheapest price in category toys
SELECT MIN(price) FROM products WHERE category = 'toys'
I need sql for products(id, title, category, price, stock): all products between 20 and 50 in price
SELECT * FROM products WHERE price BETWEEN 20 AND 50
staff(id, name, department, salary, hire_date)~how many ppl work in each department?
SELECT department, COUNT(*) FROM staff GROUP BY department
{create};~My manager asked me what we pay in total for the department Legal. One query please.
SELECT SUM(salary) FROM staff WHERE department = 'Legal'
Table: staff~Columns: id, name, department, salary, hire_date~highest salary in every department
SELECT department, MAX(salary) FROM staff GROUP BY department
staff(id, name, department, salary, hire_date) -- name and salary of everyone, biggest salary first
SELECT name, salary FROM staff ORDER BY salary DESC
{create}~names for department IT or salary over 90000
SELECT name FROM staff WHERE department = 'IT' OR salary > 90000
pets(name, species, age, owner)~which species are in there? no duplicates
SELECT DISTINCT species FROM pets
I run a small vet clinic and keep pets(name, species, age, owner). Show owner of all pets with species hamster.
SELECT owner FROM pets WHERE species = 'hamster'
{create};~how old are the pets on average
SELECT AVG(age) FROM pets
table pets with columns name, species, age, owner. list name and age where species = cat and age less than 3
SELECT name, age FROM pets WHERE species = 'cat' AND age < 3
orders(id, customer, total, status, order_date)~count the unpaid ones (status is unpaid)
SELECT COUNT(*) FROM orders WHERE status = 'unpaid'
{create};~Hi there, could u get me the customer and total of the 3 biggest orders by total
SELECT customer, total FROM orders ORDER BY total DESC LIMIT 3
sqlite: orders(id, customer, total, status, order_date). Sum of total for each status?
SELECT status, SUM(total) FROM orders GROUP BY status
orders: id, customer, total, status, order_date~customers starting with Mc, just the customer column
SELECT customer FROM orders WHERE customer LIKE 'Mc%'
films(title, director, year, rating, genre)~~movie night! titles of comedy films with rating above 7
SELECT title FROM films WHERE genre = 'comedy' AND rating > 7
{create}~which director has the most films
SELECT director FROM films GROUP BY director ORDER BY COUNT(*) DESC LIMIT 1
films(title, director, year, rating, genre). everything directed after the year 1999 sorted by year ascending
SELECT * FROM films WHERE year > 1999 ORDER BY year ASC""".split("\n")


def _human() -> tuple[Question, ...]:
    """The hand-written questions."""
    creates = {create.split()[2]: create for create in HUMAN_TABLES}
    questions = []
    for prompt, answer in zip(HUMAN_LINES[::2], HUMAN_LINES[1::2], strict=True):
        create = creates[answer.split(" FROM ")[1].split()[0]]
        shown = prompt.replace("{create}", create).replace("~", "\n")
        questions.append(Question(shown, answer, "human", {"create": create}))
    return tuple(questions)


# Rows of the databases: small ones tell wrong conditions from right ones in figures, large ones hold the rare cases.
SIZES = (4, 7, 9, 13, 20, 31, 60, 150, 300)


def _fill(rng: random.Random, kind: str, row: int, numbers: list[float], texts: list[str]) -> str | float:
    """One cell: mostly at or near a literal of the right query, else anything."""
    if kind in ("INTEGER", "REAL"):
        if not numbers or rng.random() < 0.4:
            return rng.randrange(1, 100_000)
        number = rng.choice(numbers)
        near = (number, number - 1, number + 1, number - row - 2, number + row + 2)
        return rng.choices(near, (3, 2, 2, 2, 2))[0]
    if kind == "DATE":
        dates = [text for text in texts if re.fullmatch(r"\d{4}-\d\d-\d\d", text)]
        return rng.choice(dates) if dates and rng.random() < 0.3 else _date(rng)
    if not texts or rng.random() < 0.3:
        return rng.choice(("", "pear", "plum", "fig", "kiwi", "lime"))
    text = rng.choice(texts)
    return rng.choice((text, text, text, text + "q", "q" + text, "q" + text + "q"))


def _database(create: str, answer: str, size: int) -> sqlite3.Connection:
    """The table of ``create`` in memory with rows around the literals of the right query; read-only and bounded."""
    rng = random.Random(size)
    texts = [text.strip("%") for text in re.findall(r"'([^']*)'", answer)]
    bare = re.sub(r"'[^']*'|LIMIT \d+", "", answer)
    numbers = [float(number) if "." in number else int(number) for number in re.findall(r"\b\d+(?:\.\d+)?\b", bare)]
    kinds = re.findall(r"\w+ (INTEGER|REAL|TEXT|DATE)", create)
    database = sqlite3.connect(":memory:")
    database.execute(create)
    table = create.split()[2]
    rows = [[_fill(rng, kind, row, numbers, texts) for kind in kinds] for row in range(size)]
    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(kinds))})", rows)
    database.commit()
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY)
    database.set_progress_handler(lambda: 1, 1_000_000)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    return database


def _result(database: sqlite3.Connection, query: str, ordered: bool) -> list[tuple[object, ...]]:
    fetched = database.execute(query).fetchmany(10_000)
    rows = [tuple(round(cell, 6) if isinstance(cell, float) else cell for cell in row) for row in fetched]
    return rows if ordered else sorted(rows, key=repr)


def _same(database: sqlite3.Connection, query: str, answer: str, ordered: bool) -> bool:
    """Do both queries give the same rows? Closes the database."""
    try:
        return _result(database, query, ordered) == _result(database, answer, ordered)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError):
        return False
    finally:
        database.close()


def score(question: Question, output: str) -> bool:
    """Do both queries give the same rows on every database?"""
    query = re.sub(r"^\s*```\w*\s|```\s*$", "", output.strip()).strip().strip("`").strip()
    if not query.lower().startswith("select"):
        return False
    ordered = "ORDER BY" in question.answer
    return all(
        _same(_database(question.check["create"], question.answer, n), query, question.answer, ordered) for n in SIZES
    )


def _distinct(make: Callable[[], Question], n: int, first: tuple[Question, ...] = ()) -> list[Question]:
    """The first n questions with different prompts."""
    found = {question.prompt.casefold(): question for question in first}
    while len(found) < n:
        question = make()
        found.setdefault(question.prompt.casefold(), question)
    return list(found.values())[:n]


def train(rng: random.Random, n: int) -> list[Question]:
    """n distinct questions to learn from."""
    return _distinct(lambda: _question(rng, TRAIN), n)


def held_out(rng: random.Random, n: int) -> list[Question]:
    """n distinct questions with held-out wordings, tables and values; the hand-written ones come first."""
    return _distinct(lambda: _question(rng, HELD), n, _human())


DOMAIN = Domain(
    name="sql",
    summary="Turns a table schema and a question in English into one SQLite SELECT.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=96,
)
