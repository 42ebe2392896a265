"""A sentence or two of text and the wanted keys -> a flat JSON object with exactly these keys.

Conventions: keys in the order asked, ``{"key": value, ...}`` on one line; text is copied as written, dates, times,
phone numbers and codes too; counts, amounts and years are numbers, without currency or unit ("three tickets" = 3,
"$1,250.50" = 1250.5). Every wanted key has its value in the text.

The scorer strips code fences and whitespace around the object, parses it and compares the keys exactly and the values
after collapsing whitespace, folding case and dropping a trailing full stop; numbers compare by value (2 = 2.0), but a
number as a string, or a string as a number, is wrong.
"""

import json
import random
import re
from collections.abc import Callable

from experts.domains.base import Domain, Question

Value = str | int | float
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

# Pools: the fields with free text.
TRAIN_POOLS: dict[str, list[str]] = {
    "first": (
        "Anna Peter Maria John Lucas Emma Sofia David Laura Omar Nina Tom Julia Ivan Clara Mehmet Grace"
        " Hannah Leo Aisha Carlos Ingrid Priya Kenji Paula Stefan Yuki Olga Martin Elena Samuel Fatima Jonas"
        " Rosa Victor Amelie"
    ).split(),
    "last": (
        "Schmidt Novak Lopez Miller Meyer Brown Rossi Kim Weber Haddad Berg Baker Costa Petrov Jensen Yilmaz"
        " Lee Fischer Martin Khan Garcia Larsen Sharma Tanaka Santos Huber Sato Ivanova Keller Popescu Jones"
        " Ali Lindner Silva"
    ).split(),
    "city": (
        "Berlin|Paris|Madrid|Rome|Vienna|Oslo|Lisbon|Warsaw|Prague|Dublin|Chicago|Boston|Denver|Toronto|Tokyo"
        "|Osaka|Lima|Cairo|Athens|Munich|Hamburg|Milan|Zurich|Helsinki|New York|San Diego|Istanbul|Amsterdam"
        "|Brussels|Sydney"
    ).split("|"),
    "company": (
        "Globex|Initech|Northwind Ltd|Blue Harbor|Solaris GmbH|Acme Corp|Hilltop Media|Vertex Labs"
        "|Greenfield Foods|Orbit|Stonebridge Bank|Polar Systems|Lakeside Clinic|Redwood Partners"
        "|Quantum Tools|Sunrise Bakery|Atlas Logistics"
    ).split("|"),
    "role": (
        "accountant|sales manager|engineer|nurse|head of marketing|project lead|designer|data analyst|lawyer"
        "|office manager|teacher|plumber|product owner|HR director|translator|research assistant"
    ).split("|"),
    "product": (
        "desk lamp|coffee grinder|office chair|rain jacket|phone case|garden hose|yoga mat|water bottle"
        "|backpack|keyboard|wool scarf|tent|bread knife|table fan|notebook|toaster|wall clock|bike helmet"
        "|hiking boots|paint brush|mirror"
    ).split("|"),
    "color": ("red|blue|green|black|white|silver|yellow|brown|grey|orange|dark blue|navy").split("|"),
    "brand": ("Nordica|Zenith|Brightly|Kestrel|Lumo|Canyon|Bosco|Fjell|Tamaro|Ventura|Oakley & Sons|Pixel").split("|"),
    "material": ("oak|steel|cotton|leather|bamboo|glass|wool|aluminium|plastic|linen|ceramic").split("|"),
    "event": (
        "Spring Concert|Python Meetup|Book Fair|Annual Dinner|Charity Run|Jazz Night|Design Workshop|Open Day"
        "|Wine Tasting|Chess Tournament|Film Festival|Career Fair|Science Slam|Budget Meeting|Team Retreat"
        "|Photo Exhibition"
    ).split("|"),
    "venue": (
        "Town Hall|Riverside Park|Hotel Astoria|Room B12|the City Library|Grand Theatre|Old Factory"
        "|Community Center|Seminar Room 3|Harbor Arena|St. Mary's Church|Café Luna|the Botanical Garden"
        "|Main Auditorium"
    ).split("|"),
    "airline": ("Lufthansa|KLM|Iberia|Delta|Finnair|Emirates|Ryanair|Swiss|Air Canada|Qantas").split("|"),
    "hotel": (
        "Hotel Astoria|Sea View Inn|Grand Plaza|Hotel Bristol|The Old Mill|Park Lodge|Casa Verde|Hotel Sonne"
    ).split("|"),
    "status": ("shipped|pending|delivered|cancelled|paid|on hold|returned").split("|"),
    "domain": ("example.com mail.org globex.com inbox.net post.de web.io firma.eu").split(),
}
HELD_POOLS: dict[str, list[str]] = {
    "first": ("Beatrix Gustav Leila Rowan Tariq Wendy Hiroshi Camila Dmitri Freya").split(),
    "last": ("Okafor Lindqvist Marchetti Dubois Hughes Nakamura Vargas Kowalczyk Reyes Thornton").split(),
    "city": ("Bristol|Seville|Krakow|Seattle|Kyoto|Ghent|Bogota|Porto|Cape Town|Bergen").split("|"),
    "company": ("Maple & Co|Ironclad Security|Delphi Pharma|Zephyr Air|Bluebird Toys").split("|"),
    "role": ("electrician|chief editor|sound technician|recruiter|pharmacist|tax adviser").split("|"),
    "product": ("hair dryer|camping stove|sleeping bag|monitor stand|picnic basket|soup pot|umbrella").split("|"),
    "color": ("purple|turquoise|beige|dark green|pink").split("|"),
    "brand": ("Hollander|Mirato|Skylark|Juno").split("|"),
    "material": ("walnut|titanium|silk|marble|cork").split("|"),
    "event": ("Lantern Parade|Robotics Day|Poetry Reading|Harvest Market|Alumni Ball").split("|"),
    "venue": ("Castle Square|the Boat House|Studio 7|Lincoln High School|Pier Nine").split("|"),
    "airline": ("Aegean|Icelandair|Avianca|Norse").split("|"),
    "hotel": ("Hotel Miramar|The Copper Kettle|Villa Rosa|Lakeside Lodge").split("|"),
    "status": ("delayed|refunded|in transit|packed").split("|"),
    "domain": ("mailbox.co.uk castle.dev fastpost.com").split(),
}
# Key names of a field; the first is used most.
KEYS = {
    "name": "name full_name name contact",
    "buyer": "customer name customer buyer",
    "guest": "guest name guest_name",
    "email": "email email email_address mail",
    "phone": "phone phone phone_number tel",
    "event": "event title event_name event",
    "venue": "venue location place venue",
    "product": "product item product_name product",
    "company": "company company employer organization",
    "role": "job role job_title position",
    "origin": "from origin departure_city",
    "city2": "to destination arrival_city",
    "total": "total amount total total_price",
    "price": "price price cost",
    "fee": "price ticket_price fee",
    "quantity": "quantity quantity count qty",
    "order": "order_id order_number order",
    "flight": "flight flight_number",
    "people": "guests people persons",
    "attendees": "attendees participants",
}
# Texts by subject: sentences with fields.
TRAIN_TEXTS = {
    "contact": """Please contact {name} at {email} or call {phone}.
{name} works as {a_role} at {company} in {city}.
Hi, my name is {name}, I am {age} years old and live in {city}. My email is {email}.
{name}, {role} at {company}, can be reached under {phone}.
New lead: {name} from {company}, phone {phone}, mail {email}.
I met {name} yesterday, {a_role} from {city}. The number is {phone}.
You can write to {email}; ask for {name}, our {role}.
{name} ({age}) moved to {city} and now works for {company}.
Best regards, {name}\\n{role}, {company}\\n{phone} | {email}
Our new {role} is {name}. Tel: {phone}, e-mail: {email}.
{name}, aged {age}, from {city}, applied for the position of {role}.
Speak to {name} in {city}: {phone}. {company} has known us for years.
The emergency contact is {name}, phone {phone}, who lives in {city}.
Add {name} to the list, {email}, {city}, {age} years.
Call {name} of {company} tomorrow, {phone}.
This is {name} calling from {company}. Please call me back on {phone}.
Contact person: {name}; city: {city}; email: {email}; age: {age}.
Our supplier {company} is based in {city}. The person to ask is {name} ({email}).""",
    "order": """{buyer} ordered {quantity} {products} for {total}.
Order {order}: {quantity} x {product}, total {total}, shipped to {buyer} in {city}.
I would like to order {quantity} {products} in {color}, please send them to {city}. My name is {buyer}.
{buyer} bought {a_product} for {price} on {date}.
Your order {order} from {date} is {status}. The total is {total}.
Hello, this is {buyer}. My order {order} for {quantity} {products} has not arrived in {city} yet.
On {date} {buyer} paid {total} for {quantity} {products}.
Invoice for {buyer}: {quantity} {products} at {price} each, {total} in all.
Please ship {quantity} {color} {products} to {buyer} in {city}. The order number is {order}.
Order {order} was placed by {buyer} on {date} and is now {status}.
We received an order of {quantity} {products} from {company}. They paid {total}.
{company} in {city} needs {quantity} {products} by {date}.
The status of {order} is {status}. It contains {quantity} {products} at {price} apiece.
Customer {buyer} returned {a_product} on {date}, order {order}. We refunded {total}.
{order} / {buyer} / {quantity} {products} / {total}
Thanks for your purchase, {buyer}! You bought {quantity} {color} {products} for {total}.""",
    "event": """The {event} takes place on {date} at {venue}.
Join us for the {event} at {venue} on {date} at {time}. Tickets cost {fee}.
{event}, {date}, {time}, {venue}.
Our {event} starts at {time} in {city}. We expect {attendees} attendees.
The {event} in {city} on {date} will be opened by the speaker {speaker}.
{organizer} organizes the {event} on {date}. It is held at {venue}.
Reminder: {event} on {weekday} at {time}, {venue}.
About {attendees} participants came to the {event} at {venue} in {city}.
Tickets for the {event} on {date} are {fee}. Doors open at {time}.
You are invited to the {event}! When: {date}, {time}. Where: {venue}.
The {event} was moved to {weekday}, {time}. The new place is {venue}.
{speaker} will be the speaker at the {event} in {city} on {date}.
Save the date: {date}, {event} in {city}, entry {fee}.
We booked {venue} for the {event} with {attendees} participants, {weekday} from {time}.
Hi all, the {event} is on {weekday} at {time}. {organizer} is the organizer, so ask there.""",
    "product": """The {brand} {product} costs {price} and comes in {color}.
New in stock: {color} {product} made of {material}, {price}.
This {product} by {brand} weighs {weight} kg and is made of {material}.
For sale: {product}, {color}, {price}. We have {stock} in stock.
{brand} sells its {product} for {price}. Customers rate it {rating} out of 5.
Only {stock} pieces left of the {product} from {brand}, now {price}.
The {material} {product} is {length} cm long and costs {price}.
Our bestseller, the {product} ({brand}), has a rating of {rating} and a warranty of {warranty} years.
{product}: brand {brand}, color {color}, weight {weight} kg, price {price}
I am selling my {color} {product} from {brand}. It cost {price} in {year}.
You get {warranty} years of warranty on the {brand} {product}. It is {color} and weighs {weight} kg.
The {product} in {color} is made of {material}. Length {length} cm, price {price}.
Since {year} {brand} has made this {product} of {material}.
There are {stock} units of the {color} {product} in the store, {price} each.""",
    "travel": """{guest} flies from {origin} to {city2} on {date} with {airline}.
Flight {flight} from {origin} to {city2} leaves at {time}.
I need a hotel in {city} for {nights} nights and {people} guests, arriving on {date}.
{guest} booked {nights} nights at {hotel} in {city} for {price}.
Please book a train from {origin} to {city2} on {weekday} at {time} for {people} people.
We stayed {nights} nights at {hotel} in {city}. It cost {price} in all.
{airline} flight {flight} to {city2} costs {price}.
Reservation for {guest}: {hotel}, {people} guests, {nights} nights, check-in {date}.
The bus from {origin} to {city2} departs at {time} and costs {price}.
Your flight {flight} with {airline} on {date} is confirmed. Departure at {time}.
A ticket from {origin} to {city2} is {price}. The train leaves on {weekday} at {time}.
Dear {guest}, your room at {hotel} is booked from {date} for {nights} nights.
{guest} wants to go from {origin} to {city2} with {people} people on {date}.
We will travel to {city} on {date}, {people} persons, {nights} nights.
Hi, this is {guest}. Is there a room at {hotel} for {people} guests on {date}?""",
}
HELD_TEXTS = {
    "contact": """Got a voicemail from {name}, {role} over at {company}. Ring back on {phone}.
{name} has a new address, {email}, since the move to {city}.
Meet {name}: {age}, {role}, lives in {city}, mail goes to {email}.
At {company} the one to talk to is {name}. Try {phone} or {email}.""",
    "order": """{quantity} {products} went out to {buyer} in {city}, reference {order}.
We charged {buyer} {total} for the {color} {product} on {date}.
{order} is {status}: {quantity} {products}, sum {total}, for {buyer}.""",
    "event": """See you at the {event}, {venue}, {time} on {date}!
This year's {event} drew {attendees} attendees to {venue}. Entry was {fee}.
Don't miss the {event} in {city} this {weekday}; it begins at {time}.""",
    "product": """Grab the {color} {product} from {brand} while {stock} are in stock. Yours for {price}.
A {product} of pure {material} by {brand}, {weight} kg, sold for {price}.
With a {rating} rating, the {brand} {product} is worth its {price}.""",
    "travel": """Heading from {origin} over to {city2}: {flight}, {time}, {date}.
{guest} takes a room for {people} guests at {hotel}, {nights} nights from {date}.
On {weekday} at {time} the ferry goes from {origin} to {city2}, {price} a head.""",
}
CHATTER = (
    "Thanks!|Hope you are well.|Just a quick note.|See below.|I am in a hurry.|Have a nice day!|As discussed.|FYI."
    "|Sorry for the late reply.|Hello again.|No rush.|Let me know if that works.|Good news!|ok so|By the way,|Hi,|lol"
    "|Cheers|I almost forgot to tell you.|That was a surprise.|Please read carefully.|We are very happy about it."
).split("|")
# {k} the keys, {x} the text.
TRAIN_TEMPLATES = r"""Extract {k} as JSON from this text: {x}|Extract {k} as JSON.\n{x}
{x}\n\nReturn a JSON object with the keys {k}.|{x}\nGive me {k} as JSON.
Text: {x}\nKeys: {k}\nJSON:|Text: {x}\nKeys: {k}|Return JSON with the keys {k}.\n\n{x}
JSON ({k}): {x}|Turn this into JSON with keys {k}: {x}
From the text below, extract {k} and answer with JSON only.\n\n{x}|{x} -> JSON with {k}
Read the message and fill in the JSON keys {k}.\nMessage: {x}
Please extract the fields {k} as a JSON object:\n"{x}"
"{x}" Please make a flat JSON object with {k}.
Which {k} does this text give? Answer in JSON.\n{x}|json please, {k}: {x}
Pull {k} out of the following sentence as JSON.\n{x}|Keys: {k}. Text: {x} Output only JSON.
Convert to JSON ({k}).\n{x}|I need a JSON with exactly these keys: {k}. Here is the text: {x}
Parse this into JSON. Keys: {k}\n\n{x}|{x}\n\njson keys: {k}
Can you extract {k} from this and give it to me as JSON? {x}
Fields: {k}\nInput: {x}\nOutput JSON only.|get {k} from: {x} (json)
Hi! We got this mail: "{x}" I need {k} as JSON.|My app expects JSON with {k}. The text is: {x}
{x} Write {k} as a JSON object.|Structured data, please: {k} in JSON.\nSource: {x}
Write a JSON object with {k} for this note: {x}|Find {k} in the text.\n{x}\nJSON only.
Data extraction. Keys {k}. Text: {x}|A customer wrote us.\n{x}\nSave it as JSON with {k}.
Given "{x}", return JSON with {k}."""
HELD_TEMPLATES = r"""{x}\n\nI want {k} out of that, in JSON form.|Capture {k} in a small JSON record: {x}
Form to complete (JSON): {k}\nNote: {x}|Could this be stored as JSON? Only {k}. {x}
Scan the lines and report {k} as JSON.\n{x}
Make me a JSON blob holding {k}. Source text follows.\n{x}|'{x}' => {k}, JSON format
For our database: {k} (JSON). Entry: {x}|Distil the text to JSON, properties {k}.\n---\n{x}
Someone left this note: {x}\nPut {k} into JSON.|JSON object wanted. Properties: {k}. {x}"""
KEY_LISTS = ("{c}", "{c}", "{a}", "{a}", "`{b}`", '"{q}"', "[{c}]", '["{q}"]', "({c})", "{{{c}}}", "{s}")


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeio' or word.startswith(('HR', 'umb')) else 'a'} {word}"


def _plural(noun: str) -> str:
    if noun.endswith("boots"):
        return noun
    if noun.endswith(("knife", "scarf")):
        return noun.removesuffix("fe").removesuffix("f") + "ves"
    return noun + ("es" if noun.endswith(("x", "ch", "sh", "s")) else "s")


def _money(rng: random.Random, large: bool) -> tuple[str, Value]:
    """An amount as written, and its number."""
    amount = rng.choice(
        (rng.randint(2, 99), rng.randint(100, 990), rng.randint(1000, 4000) if large else rng.randint(5, 60))
    )
    cents = rng.choice((0, 0, 0, 50, 99, 90, 95, 25, rng.randint(1, 99)))
    written = f"{amount:,}" if rng.random() < 0.5 else str(amount)
    written += f".{cents:02d}" if cents or rng.random() < 0.1 else ""
    value: Value = amount + cents / 100 if cents else amount
    value = round(value, 2) if isinstance(value, float) else value
    return rng.choice(("${}", "${}", "€{}", "£{}", "{} euros", "{} EUR", "{} USD", "{} dollars", "{} €")).format(
        written
    ), value


def _date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(2021, 2027)
    name = MONTHS[month]
    forms = [
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"{name} {day}",
        f"{day} {name}",
        f"{year}-{month + 1:02d}-{day:02d}",
    ]
    forms += [
        f"{day}.{month + 1}.{year}",
        f"{day:02d}/{month + 1:02d}/{year}",
        f"{name[:3]} {day}",
        f"{DAYS[day % 7]}, {name} {day}",
    ]
    return rng.choice(forms)


def _phone(rng: random.Random) -> str:
    shape = rng.choice(
        (
            "555-####",
            "0## #######",
            "+49 30 ######",
            "(0##) ###-####",
            "+1 ###-###-####",
            "0### ######",
            "+44 20 #### ####",
        )
    )
    return re.sub("#", lambda _: str(rng.randrange(1, 10)), shape)


def _count(rng: random.Random, low: int, high: int) -> tuple[str, Value]:
    number = rng.randint(low, high)
    return (NUMBERS[number] if 2 <= number <= 12 and rng.random() < 0.35 else str(number)), number


def _facts(rng: random.Random, pools: dict[str, list[str]]) -> dict[str, tuple[str, Value]]:
    """Every field a text can have: as written in the text, and its JSON value."""
    full = [f"{rng.choice(pools['first'])} {rng.choice(pools['last'])}" for _ in range(5)]
    if rng.random() < 0.1:
        full = [rng.choice(("Mr ", "Ms ", "Dr. ")) + name.split()[1] for name in full]
    pick = {field: rng.choice(values) for field, values in pools.items()}
    origin, target = rng.sample(pools["city"], 2)
    handle = rng.choice(
        (
            full[0].lower().replace(" ", "."),
            full[0].split()[1].lower(),
            f"{full[0][0].lower()}{full[0].split()[1].lower()}",
        )
    )
    hour, minute = rng.randint(7, 22), rng.choice((0, 0, 15, 30, 45))
    clock = rng.choice(
        (
            f"{hour}:{minute:02d}",
            f"{hour}:{minute:02d}",
            f"{hour % 12 or 12}{f':{minute}' * (minute > 0)} {'am' if hour < 12 else 'pm'}",
        )
    )
    texts = {
        "name": full[0],
        "buyer": full[1],
        "guest": full[2],
        "speaker": full[3],
        "organizer": full[4],
        "date": _date(rng),
    }
    texts |= {
        "email": f"{handle.replace('..', '.')}@{pick['domain']}",
        "phone": _phone(rng),
        "time": clock,
        "weekday": rng.choice(DAYS),
    }
    texts |= {
        field: pick[field]
        for field in ("city", "company", "role", "product", "color", "brand", "material", "event", "venue")
    }
    texts |= {
        "airline": pick["airline"],
        "hotel": pick["hotel"],
        "status": pick["status"],
        "origin": origin,
        "city2": target,
    }
    texts["order"] = rng.choice(("A-{}", "#{}X", "ORD-{}", "B{}", "SO{}", "PX-{}")).format(rng.randint(1000, 99999))
    texts["flight"] = rng.choice(("LH {}", "KL{}", "IB {}", "AY{}", "DL {}", "BA{}")).format(rng.randint(100, 2999))
    facts: dict[str, tuple[str, Value]] = {field: (text, text) for field, text in texts.items()}
    facts |= {"total": _money(rng, True), "price": _money(rng, False), "fee": _money(rng, False)}
    facts |= {
        "quantity": _count(rng, 2, rng.choice((12, 60))),
        "nights": _count(rng, 2, 14),
        "people": _count(rng, 2, 12),
    }
    for field, low, high in (
        ("age", 18, 85),
        ("attendees", 20, 900),
        ("stock", 3, 250),
        ("length", 15, 240),
        ("year", 1995, 2025),
    ):
        number = rng.randint(low, high)
        facts[field] = (str(number), number)
    facts["warranty"] = _count(rng, 2, 10)
    for field, top in (("weight", 90), ("rating", 50)):
        number = rng.randint(11, top)
        facts[field] = (f"{number / 10:g}", number // 10 if number % 10 == 0 else number / 10)
    return facts


def _noise(rng: random.Random, template: str) -> str:
    """Swap two inner letters of a long word or drop punctuation at line ends, outside the slots."""
    pieces = re.split(r"(\{\w+\})", template)
    if rng.random() < 0.4:
        return re.sub(r"[.!:]$", "", template)
    words = [i for i, piece in enumerate(pieces) if not piece.startswith("{") and re.search(r"[a-z]{5}", piece)]
    if words:
        i = rng.choice(words)
        pieces[i] = re.sub(r"([a-z])([a-z])([a-z])([a-z]{2})", r"\1\3\2\4", pieces[i], count=1)
    return "".join(pieces)


def _question(rng: random.Random, held: bool) -> Question:
    facts = _facts(rng, HELD_POOLS if held else TRAIN_POOLS)
    texts = HELD_TEXTS if held else TRAIN_TEXTS
    text = rng.choice(texts[rng.choice(list(texts))].split("\n"))
    fields = re.findall(r"\{(\w+)\}", text)
    plain = {"a_role": "role", "a_product": "product", "products": "product"}
    fields = list(dict.fromkeys(plain.get(field, field) for field in fields))
    if "{products}" in text:  # the singular noun is not in the text: the key asks for what is written
        facts["product"] = (facts["product"][0], _plural(facts["product"][0]))
    noisy = not held and rng.random() < 0.25
    written = (_noise(rng, text) if noisy else text).replace("\\n", "\n")
    slots = {field: shown for field, (shown, _) in facts.items()}
    slots |= {"a_role": _a(slots["role"]), "a_product": _a(slots["product"]), "products": _plural(slots["product"])}
    written = written.format(**slots)
    if not held and rng.random() < 0.2:
        chatter = rng.choice(CHATTER)
        written = f"{chatter} {written}" if rng.random() < 0.6 else f"{written} {chatter}"
    chosen = rng.sample(fields, rng.randint(min(2, len(fields)), min(5, len(fields))))
    if rng.random() < 0.5:
        chosen.sort(key=fields.index)
    weekday = {"weekday": "day"} if "date" not in fields else {}
    answer: dict[str, Value] = {}
    for field in chosen:
        key = rng.choice(KEYS[field].split()) if field in KEYS else weekday.get(field, field)
        answer[key] = facts[field][1]
    if noisy and rng.random() < 0.4:
        written = written.lower()
        answer = {key: value.lower() if isinstance(value, str) else value for key, value in answer.items()}
    written = written[0].upper() + written[1:] if written[0].islower() and not noisy else written
    keys = list(answer)
    names = rng.choice(KEY_LISTS).format(
        c=", ".join(keys),
        a=", ".join(keys[:-1]) + " and " + keys[-1],
        b="`, `".join(keys),
        q='", "'.join(keys),
        s=" / ".join(keys),
    )
    template = rng.choice((HELD_TEMPLATES if held else TRAIN_TEMPLATES).replace("\n", "|").split("|"))
    template = _noise(rng, template) if noisy and rng.random() < 0.5 else template
    prompt = template.replace("\\n", "\n").replace("{k}", names).replace("{x}", written)
    return Question(prompt, json.dumps(answer, ensure_ascii=False))


# Prompt and right answer in turn; ~ is a new line.
HUMAN_LINES = """\
hey can u get me name and phone as json: its Mira Stone, ring her on 0171 223344 after lunch
{"name": "Mira Stone", "phone": "0171 223344"}
Text from the wholesaler, I just need product, quantity and price in JSON.~We can send you 40 straw hats for $220.
{"product": "straw hats", "quantity": 40, "price": 220}
json with event, date, city pls -> Big Pizza Weekend, 4 July, Naples. bring friends!!
{"event": "Big Pizza Weekend", "date": "4 July", "city": "Naples"}
My grandma wrote: "I live in Salzburg, I am 91 and my name is Hedwig Moser." JSON keys name, age, city please
{"name": "Hedwig Moser", "age": 91, "city": "Salzburg"}
from, to, time as JSON. the night bus goes from Sofia to Skopje at 23:40 i think
{"from": "Sofia", "to": "Skopje", "time": "23:40"}
Got this in my inbox today. "Yo, Pedro here, you can mail me at pedro@surfshop.pt." Make JSON out of it: name, email
{"name": "Pedro", "email": "pedro@surfshop.pt"}
I have to type these into our shop system every day and it drives me mad. \
Order ZK-881 for Lena Frost, 3 candles, 27.50 euros. JSON with order_id, customer, total
{"order_id": "ZK-881", "customer": "Lena Frost", "total": 27.5}
brand color price -> json. found a nice one: Velora jacket, olive, only 89 euros
{"brand": "Velora", "color": "olive", "price": 89}
Please put hotel, city and nights into JSON. We loved the Blue Dolphin in Split, stayed five nights.
{"hotel": "Blue Dolphin", "city": "Split", "nights": 5}
{ "company", "job" } from this: she got a new gig as a florist at Petal & Stem
{"company": "Petal & Stem", "job": "florist"}
The summer fete is on 12 June at Mill Lane Park, starting 2 pm. JSON: date, venue, time
{"date": "12 June", "venue": "Mill Lane Park", "time": "2 pm"}
json of flight and airline: were on SK 1467 with SAS tmrw, so excited
{"flight": "SK 1467", "airline": "SAS"}
Warehouse note says "17 garden gnomes left, 12.99 each". stock + price, JSON only
{"stock": 17, "price": 12.99}
Customer on the line, name is Ravi Menon, wants 6 bike tyres sent to Leeds. \
give me json with customer, quantity, product, city
{"customer": "Ravi Menon", "quantity": 6, "product": "bike tyres", "city": "Leeds"}
what would the json be for keys title, venue, attendees? Around 350 people attended the Folk Fest held at Barn Hill
{"title": "Folk Fest", "venue": "Barn Hill", "attendees": 350}
Sorry for the long mail. I'm Doro Engel from Kiel, my order is R2-5510 and it still says pending. \
Need JSON: name, city, order_number, status
{"name": "Doro Engel", "city": "Kiel", "order_number": "R2-5510", "status": "pending"}
chair made from beech, 7.5 kg, costs 140 dollars. json keys material, weight, price
{"material": "beech", "weight": 7.5, "price": 140}
Need a table booked. "Table for 8 guests on Friday at 19:30, name is Carol Finch". Into JSON: name, guests, day, time
{"name": "Carol Finch", "guests": 8, "day": "Friday", "time": "19:30"}
speaker and event as json. Prof. Ana Ruiz talks at Ocean Week in Cadiz
{"speaker": "Prof. Ana Ruiz", "event": "Ocean Week"}
keys: employer, city~~well i used to work for Tidewater Glass over in Swansea, good times
{"employer": "Tidewater Glass", "city": "Swansea"}
my boss wants this in JSON (item, amount): bought a label printer, came to $1,149.00
{"item": "label printer", "amount": 1149}
Rating and warranty from this ad in JSON please. The Bruno blender, rated 4.7, with 3 years of warranty!
{"rating": 4.7, "warranty": 3}
Two of us want to go to Malta on 3 October for ten nights. As JSON with destination, date, nights, persons
{"destination": "Malta", "date": "3 October", "nights": 10, "persons": 2}
pull phone, email out of this signature, json: Best, Tilda Graf, Graf Gardening, +43 1 998877, tilda@graf.at
{"phone": "+43 1 998877", "email": "tilda@graf.at"}""".split("\n")
HUMAN = tuple(
    Question(prompt.replace("~", "\n"), answer, "human")
    for prompt, answer in zip(HUMAN_LINES[::2], HUMAN_LINES[1::2], strict=True)
)


def _normal(value: object) -> tuple[str, object]:
    """A value that compares equal for equal answers; the type stays part of it."""
    if isinstance(value, str):
        return "text", " ".join(value.split()).casefold().removesuffix(".")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number", value
    return "other", repr(value)


def _parse(text: str) -> dict[str, tuple[str, object]]:
    """Raises ValueError if the text is no JSON object."""
    value = json.loads(re.sub(r"^```\w*|```$", "", text.strip().strip("`" if text.count("`") < 6 else " ")).strip())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return {key: _normal(item) for key, item in value.items()}


def score(question: Question, output: str) -> bool:
    """Are keys and values the right ones?"""
    try:
        return _parse(output) == _parse(question.answer)
    except (ValueError, RecursionError):
        return False


def _distinct(make: Callable[[], Question], n: int, first: tuple[Question, ...] = ()) -> list[Question]:
    """The first n questions with different prompts."""
    found = {question.prompt.casefold(): question for question in first}
    while len(found) < n:
        question = make()
        found.setdefault(question.prompt.casefold(), question)
    return list(found.values())[:n]


def train(rng: random.Random, n: int) -> list[Question]:
    """n distinct questions to learn from."""
    return _distinct(lambda: _question(rng, held=False), n)


def held_out(rng: random.Random, n: int) -> list[Question]:
    """n distinct questions with held-out wordings and facts; the hand-written ones come first."""
    return _distinct(lambda: _question(rng, held=True), n, HUMAN)


DOMAIN = Domain(
    name="json",
    summary="Extracts the wanted keys from a sentence or two into a flat JSON object.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=96,
    examples=3072,
)
