"""English schedule -> one five-field cron line (minute, hour, day of month, month, day of week).

Conventions: Sunday = 0, Monday..Saturday = 1..6, weekdays = 1-5, weekend = 6,0; a clock time without am/pm is 24 h;
no time named means midnight ("daily" = ``0 0 * * *``); every N hours starts on the full hour unless a minute is named;
an hour range has both named hours in it ("every 10 minutes from 8 to 18" = ``*/10 8-18 * * *``); a list keeps the order
of the question.

The scorer strips code fences, backticks, surrounding whitespace and a trailing full stop, folds case, accepts the
``@daily`` macros and day or month names, and compares the five fields as sets of values (7 = 0, ``*/1`` = ``*``), so
equal schedules count as equal however they are written. A sixth field or any other word makes the output wrong.
"""

import random
import re
from collections.abc import Callable

from experts.domains.base import Domain, Question

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
DAYS_SHORT = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
MONTHS = "January February March April May June July August September October November December".split()
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()

TRAIN_TASKS = """back up the database|rotate the logs|send the newsletter|sync the calendar|clean the temp folder
restart nginx|renew the certificates|refresh the cache|pull the latest prices|email the sales report|rebuild the index
run the tests|water the plants|check disk space|import the orders|export the invoices|ping the server|run cleanup.sh
archive old tickets|update the dashboard|scan for viruses|post the standup reminder|fetch the weather|empty the trash
warm up the cache|run payroll|copy photos to the NAS|reindex search|charge subscriptions|run the ETL job
generate the sitemap|check for updates|snapshot the VM|send birthday mails|delete stale carts|run report.py
reset the demo environment|mirror the repo|vacuum the tables|turn on the porch light""".replace("\n", "|").split("|")
HELD_TASKS = """compact the mailbox|dump the postgres tables|feed the fish|retrain the model|poll the RSS feeds
deploy staging|prune docker images|open the greenhouse vents|remind the team about timesheets|pay the freelancers
download the exchange rates|defragment the archive|upload metrics|reboot the router|collect meter readings
tweet the menu|lock the front door|run the linkchecker""".replace("\n", "|").split("|")

# Wrappers: {s} the schedule, {S} the same with a capital, {task} what is run.
TRAIN_TEMPLATES = """Give me the cron expression for: {s}
What is the cron expression for {s}?
cron for {s}
cron: {s}
{S} as cron
{S} - cron expression please
Write a cron schedule that runs {s}.
Write the crontab line (five fields only) for a job that should run {s}.
I need a crontab entry to {task} {s}. Only the five fields, please.
I want to {task} {s}. What is the cron expression?
Convert to cron: {s}
Convert this schedule to a five-field cron line: {s}
Translate "{s}" into cron syntax.
How do I write {s} in crontab?
Which cron expression means "{s}"?
{S}, {task}. Cron line only.
{S} we {task}. Give only the cron line.
Please give me the cron schedule to {task} {s}
Schedule: {s}. Cron?
crontab schedule, {s}
Our server has to {task} {s}. Reply with the cron expression only.
I am setting up a new machine. It should {task} {s}. Please write the cron line, nothing else.
can you write me a cron line that will {task} {s}? thanks
Make a cron string: {s}.
Job: {task}
When: {s}
Cron expression:
{task} {s} -> cron
Set up a cron job to {task} {s}; answer with just the schedule.
Hi! My boss wants the job to {task} {s}. What do I put in the crontab?
Express "{s}" as minute hour day month weekday.
Five fields for cron, {s}, no command.
i need cron to {task} {s}
My script should fire {s}. Cron expression?
Cron syntax to {task} {s}
Return only the cron expression. {S}.
What would the cron schedule look like if I want to {task} {s}?
Hello, how can I {task} {s} with cron? Just the five fields.
The job must {task} {s}, write it as a cron schedule
Turn this into a crontab schedule: "{task} {s}"
Give only the cron line: {s}.
We moved to a new host last week. Now I have to {task} {s} and forgot the cron syntax.
{S}. Cron line?"""
HELD_TEMPLATES = """What five cron fields make a script start {s}?
cron timing wanted: {s}
Could you tell me the crontab timing if we {task} {s}? Just the line.
Someone asked me to {task} {s}, so I am looking for the matching cron syntax.
{S} in crontab notation, nothing more.
Fill in the five stars of cron so that it fires {s}.
Quick one: cron string to {task} {s}?
Timer spec is "{s}". Put it in cron form.
A cron trigger has to {task} {s}. Its schedule string is?
Our pi should {task} {s}. Crontab timing?
{s}, written for cron
Need help with crontab: it ought to {task} {s}. Only send the expression.
Compose the cron pattern which will {task} {s}."""

CHATTER = (
    "Sorry, I am new to Linux.|Thanks!|thx|Quick question.|I never remember the order.|Hi there,|The old job broke."
    "|It's for a small server at home.|Hope you can help.|Good morning.|This is urgent.|Cheers|We use plain crontab."
    "|My colleague is on holiday.|I keep mixing up the fields.|Thank you in advance."
).split("|")


def _lines(text: str) -> list[str]:
    """One template a line; the one template of three lines (Job/When/Cron) is joined again."""
    return text.replace("\nWhen: ", "\vWhen: ").replace("\nCron expression:", "\vCron expression:").split("\n")


# Schedules by kind: (weight, training wordings, held-out wordings). {t} time, {d} one day, {ds} days, {n} a number.
WORDINGS: dict[str, tuple[int, str, str]] = {
    "minutes": (
        9,
        "every {n} minutes|each {n} minutes|every {n} min|every {n} minutes, all day|every {n} minutes around the clock"
        "|once every {n} minutes|at {n}-minute intervals|every {n}th minute|every {n} mins",
        "at an interval of {n} minutes|{n} minutes apart, day and night|repeatedly, every {n} minutes",
    ),
    "minutes_on": (
        5,
        "every {n} minutes {ds}|{ds} every {n} minutes|every {n} min {ds}|{ds}, every {n} minutes",
        "at an interval of {n} minutes {ds}|{ds} once per {n} minutes",
    ),
    "hours": (
        8,
        "every {n} hours|each {n} hours|once every {n} hours|every {n} hours on the hour|every {n}h|every {n} hrs"
        "|at {n}-hour intervals|every {n} hours, every day",
        "at an interval of {n} hours|{n} hours apart, day and night|repeatedly, every {n} hours",
    ),
    "hours_at": (
        3,
        "every {n} hours at minute {m}|every {n} hours at {m} minutes past|at minute {m} of every {n}th hour"
        "|every {n} hours, {m} minutes past the hour",
        "at an interval of {n} hours, at minute {m}|{m} minutes past the hour, every {n} hours",
    ),
    "hourly": (
        7,
        "every hour at minute {m}|hourly at {m} minutes past|{m} minutes past every hour|at minute {m} of every hour"
        "|once an hour at minute {m}|every hour at {m} past|each hour at :{m:02d}|at {m} past every hour",
        "hourly on minute {m}|when it is {m} minutes past, each hour|on the {m} minute mark of each hour",
    ),
    "daily": (
        14,
        "every day at {t}|daily at {t}|at {t} every day|each day at {t}|once a day at {t}|at {t} daily|every day, {t}"
        "|at {t} each day|every single day at {t}|seven days a week at {t}|at {t}, every day of the week",
        "day after day at {t}|all days of the week at {t}|once per day, at {t}",
    ),
    "part": (
        8,
        "every {p} at {bare}|each {p} at {bare}|{bare} every {p}|{day} {p}s at {bare}|on {day} {p}s at {bare}"
        "|every {day} {p} at {bare}|weekday {p}s at {bare}|every {p} at {bare} {ds}|{ds} at {bare} in the {p}",
        "each single {p}, {bare}|{p}s at {bare}|{day} {p}s, {bare} sharp",
    ),
    "days": (
        30,
        "{ds} at {t}|at {t} {ds}|{ds}, {t}|{ds}, at {t}|at {t}, {ds}|{ds} at {t} sharp",
        "{ds}, exactly at {t}|when it is {t} {ds}|{ds} once the clock shows {t}",
    ),
    "twice": (
        7,
        "every day at {t} and {t2}|daily at {t} and {t2}|twice a day, at {t} and {t2}|at {t} and {t2} every day"
        "|twice daily at {t} and at {t2}|{ds} at {t} and {t2}|at {t} and {t2} {ds}",
        "two times a day, {t} plus {t2}|{ds}, both at {t} and at {t2}|each day, first at {t} and then at {t2}",
    ),
    "monthly": (
        12,
        "on the {o} of every month at {t}|every month on the {o} at {t}|at {t} on the {o} of each month"
        "|monthly on day {dom} at {t}|on day {dom} of every month at {t}|each month on the {o}, {t}"
        "|once a month, on the {o} at {t}|on the {o} of the month at {t}|monthly, the {o}, at {t}",
        "when the {o} of a month comes, at {t}|month by month on the {o}, at {t}|at {t} on each month's {o}",
    ),
    "monthly_two": (
        4,
        "on the {o} and the {o2} of every month at {t}|every month on the {o} and {o2} at {t}"
        "|at {t} on the {o} and {o2} of each month|twice a month, on the {o} and {o2}, at {t}",
        "at {t} on each month's {o} and {o2}|two times a month, the {o} plus the {o2}, at {t}",
    ),
    "yearly": (
        8,
        "every year on {month} {o} at {t}|on {month} {dom} every year at {t}|once a year on {dom} {month} at {t}"
        "|yearly on the {o} of {month} at {t}|at {t} on {month} {o}|every {dom} {month} at {t}|each {month} {o} at {t}",
        "year after year on {dom} {month}, {t}|annually, the {o} of {month}, at {t}",
    ),
    "in_month": (
        4,
        "every day in {month} at {t}|daily at {t} in {month}|at {t} every day in {month}|each day of {month} at {t}"
        "|{ds} in {month} at {t}|in {month}, {ds} at {t}",
        "all {month} long, each day at {t}|during {month}, {ds} at {t}",
    ),
    "quarter": (
        3,
        "every {k} months on the {o} at {t}|on the {o} of every {k_th} month at {t}"
        "|at {t} on the {o}, every {k} months",
        "{k} months apart, on the {o} at {t}",
    ),
    "range_hourly": (
        7,
        "every hour from {h1} to {h2}|hourly between {h1} and {h2}|every hour between {h1} and {h2}"
        "|every hour from {h1} to {h2} {ds}|{ds} every hour between {h1} and {h2}|{ds} hourly from {h1} to {h2}"
        "|on the hour from {h1} till {h2}|hourly, {h1} through {h2}, {ds}",
        "each full hour starting {h1} and ending {h2}|{ds}, each full hour from {h1} until {h2}",
    ),
    "range_minutes": (
        7,
        "every {n} minutes from {h1} to {h2}|every {n} minutes between {h1} and {h2}"
        "|every {n} minutes from {h1} to {h2} {ds}|{ds} every {n} minutes between {h1} and {h2}"
        "|between {h1} and {h2} every {n} minutes {ds}|every {n} min, {h1} till {h2}, {ds}",
        "at an interval of {n} minutes between {h1} and {h2} {ds}|from {h1} until {h2}, once per {n} minutes",
    ),
}
# Wordings without a slot, with their cron line.
FIXED_TRAIN = (
    ("every minute", "* * * * *"),
    ("once a minute", "* * * * *"),
    ("every other minute", "*/2 * * * *"),
    ("every half hour", "*/30 * * * *"),
    ("every quarter of an hour", "*/15 * * * *"),
    ("every hour", "0 * * * *"),
    ("hourly", "0 * * * *"),
    ("every hour on the hour", "0 * * * *"),
    ("every hour at half past", "30 * * * *"),
    ("at quarter past every hour", "15 * * * *"),
    ("at quarter to every hour", "45 * * * *"),
    ("every other hour", "0 */2 * * *"),
    ("every day", "0 0 * * *"),
    ("once a day", "0 0 * * *"),
    ("every night at midnight", "0 0 * * *"),
    ("every day at noon", "0 12 * * *"),
    ("on the first of every month", "0 0 1 * *"),
    ("once a month on the first at midnight", "0 0 1 * *"),
    ("every quarter on the first day at midnight", "0 0 1 */3 *"),
    ("every New Year's Day at midnight", "0 0 1 1 *"),
)
FIXED_HELD = (
    ("each minute", "* * * * *"),
    ("at the top of each hour", "0 * * * *"),
    ("each half hour", "*/30 * * * *"),
    ("at the stroke of midnight each day", "0 0 * * *"),
)
Parts = tuple[str, str]


def _ordinal(n: int) -> str:
    return f"{n}{'th' if 10 < n < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def _clock(rng: random.Random, hour: int, minute: int) -> str:
    """One of many ways to say a time of day."""
    if minute == 0 and hour in (0, 12) and rng.random() < 0.5:
        return rng.choice(("midnight", "12 am", "12am") if hour == 0 else ("noon", "12 pm", "midday", "12pm"))
    twelve, half = hour % 12 or 12, "am" if hour < 12 else "pm"
    part = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    part = "at night" if hour > 21 else part
    suffixes = (half, f" {half}", f" {half.upper()}", f" {half[0]}.m.", half.upper())
    forms = [f"{hour:02d}:{minute:02d}"] * 3
    forms += [f"{twelve}:{minute:02d}{rng.choice(suffixes)}"] * (3 if minute else 1)
    if hour > 5:
        forms.append(f"{hour}:{minute:02d}")
    if minute == 0:
        forms += [f"{twelve}{rng.choice(suffixes)}"] * 5 + [f"{NUMBERS[twelve]} {half}"]
    if minute and minute not in (15, 30, 45):
        forms.append(f"{twelve}.{minute:02d} {half}")
    if hour not in (0, 12):
        word = rng.choice((str(twelve), NUMBERS[twelve]))
        following = rng.choice((str(twelve % 12 + 1), NUMBERS[twelve % 12 + 1]))
        spoken = {0: word, 15: f"quarter past {word}", 30: f"half past {word}", 45: f"quarter to {following}"}
        if minute in spoken and not (minute == 45 and hour in (11, 17, 21, 23)):
            forms += [f"{spoken[minute]} {part}"] * 2
    return rng.choice(forms)


def _minute(rng: random.Random) -> int:
    pick = rng.random()
    if pick < 0.42:
        return 0
    return rng.choice((15, 30, 30, 45)) if pick < 0.7 else rng.randrange(1, 60)


def _join(rng: random.Random, words: list[str]) -> str:
    last = rng.choice((" and ", " and ", ", ", " & ")) if len(words) == 2 else rng.choice((" and ", ", and ", ", "))
    return ", ".join(words[:-1]) + last + words[-1]


def _days(rng: random.Random) -> Parts:
    """Words for some days of the week, ready to stand alone ("on Mondays"), and the cron field."""
    pick = rng.random()
    name = DAYS if rng.random() < 0.7 else DAYS_SHORT
    if pick < 0.22:
        during = ("on weekdays", "every weekday", "Monday to Friday", "on working days", "each weekday", "Mon-Fri")
        return rng.choice((*during, "Monday through Friday", "on workdays", "from Monday to Friday")), "1-5"
    if pick < 0.32:
        return rng.choice(("on weekends", "every weekend day", "on Saturdays and Sundays", "Sat and Sun")), "6,0"
    if pick < 0.62:
        day = rng.randrange(7)
        weekly = (f"every {name[day]}", f"on {DAYS[day]}s", f"each {DAYS[day]}", f"weekly on {name[day]}")
        return rng.choice((*weekly, f"once a week on {DAYS[day]}", f"every week on {DAYS[day]}")), str(day)
    if pick < 0.84:
        chosen = sorted(rng.sample(range(7), rng.choice((2, 2, 2, 3, 3, 4))), key=lambda day: (day - 1) % 7)
        listed = _join(rng, [name[day] + ("s" if name is DAYS and pick < 0.7 else "") for day in chosen])
        return rng.choice(("on ", "every ") if pick >= 0.7 else ("on ",)) + listed, ",".join(map(str, chosen))
    first, last = rng.choice(((1, 4), (1, 3), (1, 6), (2, 4), (2, 5), (2, 6), (3, 5), (3, 6), (4, 6), (0, 4), (5, 0)))
    a, b = name[first], name[last]
    words = (f"{a} to {b}", f"{a} through {b}", f"from {a} to {b}", f"{a}-{b}", f"every {a} to {b}")
    return rng.choice(words), "5,6,0" if last == 0 else f"{first}-{last}"


def _schedule(rng: random.Random, held: bool) -> Parts:
    """An English schedule and its cron line."""
    if rng.random() < 0.07:
        return rng.choice(FIXED_HELD if held else FIXED_TRAIN)
    kind = rng.choices(list(WORDINGS), [weight for weight, _, _ in WORDINGS.values()])[0]
    _, train_wordings, held_wordings = WORDINGS[kind]
    wording = rng.choice((held_wordings if held else train_wordings).split("|"))
    hour, minute = rng.choice((rng.randrange(24), rng.randrange(5, 23))), _minute(rng)
    on_days, dow = _days(rng)
    part, hour_of_part = rng.choice(
        (("morning", rng.randint(4, 11)), ("afternoon", rng.randint(13, 17)), ("evening", rng.randint(17, 22)))
    )
    if kind == "part":
        hour, minute = hour_of_part, rng.choice((0, 0, 0, 0, 15, 30, 30, 45, minute))
    weekday = rng.randrange(7)
    twelve = hour % 12 or 12
    bare = f"{twelve}:{minute:02d}" if minute else rng.choice((str(twelve), NUMBERS[twelve], f"{twelve} o'clock"))
    if minute == 30 and rng.random() < 0.5:
        bare = f"half past {rng.choice((str(twelve), NUMBERS[twelve]))}"
    n = rng.choice((2, 3, 4, 6, 8, 12) if kind.startswith("hours") else (2, 3, 4, 5, 5, 6, 10, 10, 12, 15, 15, 20, 30))
    count = NUMBERS[n] if n <= 12 and rng.random() < 0.2 and not re.search(r"\{n\}(-|th|h)", wording) else str(n)
    hour2 = rng.choice([h for h in range(24) if h != hour])
    hour, hour2 = (min(hour, hour2), max(hour, hour2)) if kind == "twice" else (hour, hour2)
    dom, dom2 = sorted(rng.sample(range(1, 29), 2)) if kind == "monthly_two" else (rng.choice((1, 15, 1 + hour, 28)), 0)
    if rng.random() < 0.5 and kind != "monthly_two":
        dom = rng.randrange(1, 29)
    month, k = rng.randrange(12), rng.choice((2, 3, 4, 6))
    start = rng.randrange(0, 20)
    end = rng.randrange(start + 2, 24)
    past = minute or rng.randrange(1, 60)
    wording = re.sub(r"\{n\}(th)", lambda _: _ordinal(n), wording)
    style = rng.randrange(3)
    span = [
        (f"{h:02d}:00", str(h), f"{h % 12 or 12}{' ' * (h % 2)}{'am' if h < 12 else 'pm'}")[style] for h in (start, end)
    ]
    if kind == "twice" and minute == 0 and style == 1:
        times = [f"{h % 12 or 12}{'am' if h < 12 else 'pm'}" for h in (hour, hour2)]
    else:
        times = [_clock(rng, h, minute) for h in (hour, hour2)]
    text = wording.format(
        n=count,
        m=past,
        t=times[0],
        t2=times[1],
        ds=on_days,
        o=_ordinal(dom),
        o2=_ordinal(dom2),
        dom=dom,
        month=MONTHS[month] if rng.random() < 0.85 else MONTHS[month][:3],
        k=rng.choice((str(k), NUMBERS[k])),
        k_th={2: "second", 3: "third", 4: "fourth", 6: "sixth"}[k],
        p=part,
        bare=bare,
        day=DAYS[weekday],
        h1=span[0],
        h2=span[1],
    )
    day = dow if "{ds}" in wording else str(weekday) if "{day}" in wording else "*"
    day = "1-5" if wording.startswith("weekday ") else day
    lines: dict[str, str] = {
        "minutes": f"*/{n} * * * *",
        "minutes_on": f"*/{n} * * * {day}",
        "hours": f"0 */{n} * * *",
        "hours_at": f"{past} */{n} * * *",
        "hourly": f"{past} * * * *",
        "daily": f"{minute} {hour} * * *",
        "part": f"{minute} {hour} * * {day}",
        "days": f"{minute} {hour} * * {day}",
        "twice": f"{minute} {hour},{hour2} * * {day}",
        "monthly": f"{minute} {hour} {dom} * *",
        "monthly_two": f"{minute} {hour} {dom},{dom2} * *",
        "yearly": f"{minute} {hour} {dom} {month + 1} *",
        "in_month": f"{minute} {hour} * {month + 1} {day}",
        "quarter": f"{minute} {hour} {dom} */{k} *",
        "range_hourly": f"0 {start}-{end} * * {day}",
        "range_minutes": f"*/{n} {start}-{end} * * {day}",
    }
    return text, lines[kind]


def _noise(rng: random.Random, template: str) -> str:
    """Swap two letters of a long word or drop punctuation, outside the slots."""
    pieces = re.split(r"(\{\w+\})", template)
    if rng.random() < 0.5:
        return "".join(p if p.startswith("{") else re.sub(r"[?.!,;](?=\s|$)", "", p) for p in pieces)
    words = [(i, m) for i, p in enumerate(pieces) if p[:1] != "{" for m in re.finditer(r"[a-z]{6,}", p)]
    if words:
        i, match = rng.choice(words)
        at = match.start() + rng.randrange(1, len(match.group()) - 2)
        pieces[i] = pieces[i][:at] + pieces[i][at + 1] + pieces[i][at] + pieces[i][at + 2 :]
    return "".join(pieces)


def _question(rng: random.Random, held: bool) -> Question:
    schedule, line = _schedule(rng, held)
    template = rng.choice(_lines(HELD_TEMPLATES if held else TRAIN_TEMPLATES)).replace("\v", "\n")
    noisy = not held and rng.random() < 0.25
    if noisy and rng.random() < 0.7:
        template = _noise(rng, template)
    task = rng.choice(HELD_TASKS if held else TRAIN_TASKS)
    if not held and rng.random() < 0.1 and "\n" not in template:
        chatter = rng.choice(CHATTER)
        template = f"{chatter} {template}" if rng.random() < 0.6 else f"{template} {chatter}"
    prompt = template.format(s=schedule, S=schedule[0].upper() + schedule[1:], task=task).replace("..", ".")
    return Question(prompt.lower() if noisy and rng.random() < 0.6 else prompt, line)


HUMAN = tuple(
    Question(prompt, answer, "human")
    for prompt, answer in (
        ("hey, whats the cron for 6:45 in the morning but only on weekdays", "45 6 * * 1-5"),
        ("need my backup script going off at 2am every night. crontab line pls", "0 2 * * *"),
        ("cron every 5 min", "*/5 * * * *"),
        ("I always forget this. Sundays, 11:30 pm, what's the cron thing?", "30 23 * * 0"),
        ("We send out invoices on the 1st and 15th of the month at 9 am. How does that look in cron?", "0 9 1,15 * *"),
        ("cronjob for mon wed fri at 18:00", "0 18 * * 1,3,5"),
        ("Please run it every 4 hours. I only need the five fields.", "0 */4 * * *"),
        ("whats the crontab syntax for once an hour at 20 past", "20 * * * *"),
        ("My cat feeder is hooked up to a raspberry pi lol. It should go at 7am and 7pm daily, cron?", "0 7,19 * * *"),
        ("every 15 mins during business hours 9 to 17, monday to friday -> cron", "*/15 9-17 * * 1-5"),
        ("crontab: Saturday mornings at half past eight", "30 8 * * 6"),
        ("can u give me cron for noon every day", "0 12 * * *"),
        ("The taxes script must run once a year on april 15th at 10:00. cron expression only please", "0 10 15 4 *"),
        ("Trying to schedule a reboot for tuesdays and thursdays at 3:15 am, cron line?", "15 3 * * 2,4"),
        ("half-hourly cron", "*/30 * * * *"),
        ("the lights in the office go off at 21:30 mon-fri, what do i type in crontab", "30 21 * * 1-5"),
        ("cron expresion for midnight on the first day of each month", "0 0 1 * *"),
        ("Weekend only job, 10 in the morning. Give me the cron line.", "0 10 * * 6,0"),
        ("so our ops guy left and i have to do this now... report should go out fridays 4:30pm. cron?", "30 16 * * 5"),
        ("Hourly from 8am until 6pm please, every day, in cron format", "0 8-18 * * *"),
        ("cron 05:10 every day thx", "10 5 * * *"),
        ("Wednesday to Saturday at 8 pm in cron syntax?", "0 20 * * 3-6"),
        ("i want a job on christmas day (december 25) at 8:00 each year. cron schedule", "0 8 25 12 *"),
        ("Payroll goes out on the 28th every month, quarter past five in the afternoon. Cron?", "15 17 28 * *"),
        ("every two hours, crontab", "0 */2 * * *"),
        ("Could you write cron for 12:05 am every monday?", "5 0 * * 1"),
    )
)

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _values(text: str, low: int, high: int) -> frozenset[int]:
    """The values of one cron field. Raises ValueError on anything that is not one."""
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"(?:(\*)|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", item)
        if not match:
            raise ValueError(f"not a cron field: {item!r}")
        star, first, last, step = match.groups()
        start = low if star else int(first)
        end = high if star or (step and not last) else int(last or first)
        if not (low <= start <= end <= high) or (step and int(step) == 0):
            raise ValueError(f"out of range: {item!r}")
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(value % 7 for value in found) if high == 7 else frozenset(found)


def _parse(line: str) -> tuple[frozenset[int], ...]:
    """The five sets of values of a cron line. Raises ValueError if it is none."""
    text = re.sub(r"^\s*```\w*\n|```|`", "", line).strip().lower().rstrip(".").strip()
    fields = MACROS.get(text, text).split()
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields instead of 5")
    for i, names, base in ((4, DAYS_SHORT, 0), (3, [month[:3] for month in MONTHS], 1)):
        for value, name in enumerate(names):
            fields[i] = re.sub(rf"\b{name.lower()}\b", str(value + base), fields[i])
    return tuple(_values(field, *bounds) for field, bounds in zip(fields, FIELDS, strict=True))


def score(question: Question, output: str) -> bool:
    """Do both lines fire at the same times?"""
    try:
        return _parse(output) == _parse(question.answer)
    except ValueError:
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
    """n distinct questions with held-out wordings; the hand-written ones come first."""
    return _distinct(lambda: _question(rng, held=True), n, HUMAN)


DOMAIN = Domain(
    name="cron",
    summary="Turns a schedule in English into a five-field cron line.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=32,
)
