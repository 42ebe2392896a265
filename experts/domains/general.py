# ruff: noqa: E501 (the data is one phrase or sentence a line)
"""General chat: prompts that belong to no specialist, for the router only (there are no answers and no DOMAIN here).

Small talk, advice, explanations, culture, science, cooking, travel, writing, opinions, and near misses: questions ABOUT
databases, logs, cron, regular expressions, shells, dates, units or languages that ask for talk, not for the specialist's
work. Training and held-out prompts share no template, no topic and no hand-written sentence.

The other modules borrow the two wording tools: `expand` for ``[this|that]`` alternatives, `roughen` for careless typing.
"""

import random
import re
from collections.abc import Callable

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


def expand(rng: random.Random, text: str) -> str:
    """Replace every ``[a|b|c]`` of `text`, innermost first, by one of its alternatives; then tidy the spaces."""
    while _CHOICE.search(text):
        text = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)
    return re.sub(r" +(?=[ ,.?!:](?:\s|$))| +(?= )", "", text).strip()


def roughen(rng: random.Random, text: str) -> str:
    """Type `text` carelessly: lower case, dropped punctuation, two letters swapped. ``{slots}`` stay as they are."""
    words = text.split(" ")
    plain = [i for i, word in enumerate(words) if "{" not in word]
    if rng.random() < 0.6:
        for i in plain:
            words[i] = words[i].lower()
    if rng.random() < 0.5:
        for i in plain:
            words[i] = re.sub(r"[,.?!']", "", words[i])
    long = [i for i in plain if words[i].isalpha() and len(words[i]) > 4]
    if long and rng.random() < 0.5:
        i = rng.choice(long)
        at = rng.randrange(1, len(words[i]) - 2)
        words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
    return " ".join(word for i, word in enumerate(words) if word or i == 0)


TRAIN_TOPICS: dict[str, str] = {
    "science": """black holes|photosynthesis|the water cycle|gravity|vaccines|DNA|earthquakes|rainbows|magnetism|evolution
        |the northern lights|tides|nuclear fusion|antibiotics|plate tectonics|the ozone layer|sound waves|solar eclipses
        |dark matter|osmosis|bacteria|the greenhouse effect|relativity|the periodic table|lightning|comets""",
    "history": """the Roman Empire|the French Revolution|the Cold War|the Silk Road|ancient Egypt|the Industrial Revolution
        |the Vikings|the fall of Constantinople|the Black Death|the Renaissance|the Ottoman Empire|World War I
        |the Space Race|the Aztecs|the Mongol Empire|the American Civil War|Napoleon|Cleopatra|Joan of Arc""",
    "place": """Japan|Italy|Morocco|Peru|Iceland|Vietnam|Greece|Canada|Kenya|Scotland|Brazil|Norway|Thailand|Mexico|Egypt
        |Lisbon|Barcelona|Kyoto|Vienna|Istanbul|Cape Town|Chicago|Prague|Sydney|Havana|Seoul""",
    "food": """pancakes|lasagna|vegetable curry|sourdough bread|tomato soup|fried rice|apple pie|guacamole|risotto|falafel
        |chocolate cake|ramen|roast chicken|hummus|pizza dough|beef stew|potato salad|banana bread|omelettes""",
    "hobby": """painting|chess|running|gardening|photography|knitting|cycling|yoga|the guitar|bird watching|climbing
        |pottery|swimming|baking|sailing|drawing|woodworking|dancing|the piano|fishing|journaling""",
    "pet": "cat|dog|puppy|kitten|parrot|hamster|rabbit|goldfish|turtle|guinea pig|budgie",
    "person": """my boss|my sister|my neighbour|my best friend|my grandmother|a colleague|my teacher|my landlord|my son
        |my new team|my wife|an old friend|my roommate|my dad""",
    "occasion": """a birthday|a wedding|a farewell party|the holidays|a job interview|a long illness|the new baby|retirement
        |graduation|a first day at work|a housewarming|an anniversary""",
    "health": """sleep better|drink more water|lower my stress|lose some weight|stop biting my nails|fix my posture|get rid
        of hiccups|get over a cold|wake up earlier|calm down before an exam|quit smoking|eat less sugar""",
    "job": """nurse|electrician|data analyst|pilot|teacher|lawyer|chef|game designer|journalist|architect|firefighter
        |software developer|translator|vet|carpenter|marine biologist""",
    "tech": """a database|an operating system|a compiler|a web browser|an API|version control|cloud computing|encryption
        |a log file|a cron job|a regular expression|a command line|a file system|JSON|SQL|Linux|a shell script|a time zone
        |a web server|a stack trace|machine learning|an algorithm|recursion|object-oriented programming|a firewall
        |a virtual machine|Docker|Kubernetes|caching|unit testing|Bluetooth|a neural network""",
    "film": """The Matrix|Titanic|Spirited Away|Jurassic Park|Casablanca|The Lion King|Inception|Amelie|Star Wars|Alien
        |Pride and Prejudice|Moby Dick|The Hobbit|1984|Hamlet|Dune""",
    "thing": """the sea|autumn|a lonely robot|my old bicycle|the moon|a rainy Monday|friendship|a dragon who bakes|coffee
        |a lost umbrella|winter mornings|a brave mouse|the last train|summer nights|a talking tree""",
    "view": """working from home|social media|electric cars|tipping in restaurants|school uniforms|pineapple on pizza|zoos
        |space tourism|small talk|video games|reality TV|fast fashion|learning Latin|daylight saving time""",
}

TRAIN_TEMPLATES = """
[Can you explain|Please explain|Explain] {science} [in simple terms|to a ten year old|briefly|like I'm five|]
How [do|does] {science} work?
Why [is|are] {science} [important|so hard to understand|interesting]?
What [should everyone know|do we still not know] about {science}?
Tell me [something surprising|an interesting fact|a bit] about {science}
[Tell me about|Give me a short summary of|What do you know about] {history}
Why [is|was|were] {history} so important?
[Who were the key people in|What were the main consequences of] {history}?
I have to write an essay on {history}. Where do I start?
What should I [see|eat|do|pack] in {place}?
[Is|Would you say] {place} [is|] a good place for [families|a honeymoon|a solo trip|a winter holiday]?
When is the best [time of year|season] to visit {place}?
I'm going to {place} [next month|in spring|with my kids] [and I'm nervous|for the first time|]. Any tips?
What is {place} famous for?
How [do I|can I|do you] make {food}?
[Any tips for|What's the secret of] [really good|perfect|fluffy|crispy] {food}?
What goes well with {food}?
My {food} always [come|comes] out [dry|bland|soggy]. What am I doing wrong?
[I want to take up|I'm thinking about starting] {hobby}. [How do I begin?|What do I need?|Is it expensive?]
How long does it take to get good at {hobby}?
Why do people love {hobby} so much?
My {pet} [keeps me awake at night|won't eat|is scared of thunder|hides all day]. What can I do?
What's a [good|funny|cute] name for a {pet}?
Is a {pet} a good pet for [a small flat|children|a busy person]?
Write [a short mail|a thank-you note|a friendly message|an apology] to {person}
[What do I say to|How do I congratulate|What could I give] {person} for {occasion}?
I had an argument with {person} [yesterday|again]. How do I make up?
Help me write a [speech|toast|card] for {occasion}
How can I {health}?
[Any advice on how to|What helps to|Is it hard to] {health}?
I've been trying to {health} [for months|since January] but nothing works. [Ideas?|Any suggestions?|What would you try?]
How do I become a {job}?
What does a {job} do all day?
Is {job} a good career [these days|for an introvert|]?
I'm a {job} and I feel [bored|burnt out|underpaid]. Should I change jobs?
What is {tech}?
[Can you explain|Explain] what {tech} is [good for|used for|] [in plain words|to my grandmother|]
Why do programmers [need|like|talk about] {tech}?
[Who invented|What is the history of] {tech}?
What's the best way to learn about {tech}?
Is {tech} hard to [learn|understand]?
What do you think [about|of] {film}?
[Did you like|Have you heard of|Why is everyone talking about] {film}?
Recommend me something [like|similar to] {film}
What is {film} about? No spoilers please
Write [a poem|a haiku|a limerick|a short story|four rhyming lines] about {thing}
Tell me [a joke|a bedtime story|a riddle] about {thing}
What do you think about {view}?
[Give me arguments for and against|Is it time to get rid of|Do you like] {view}?
Convince me that {view} [is|are] [overrated|great|a bad idea]
[Hi|Hello|Hey], [how are you|how's it going|what's up|how was your day]?
[Good morning|Good evening|Hey there|Hiya][!|.|, friend!] [What's new?|Fancy a chat?|I'm bored.|Let's talk.|How are things?]
[Thanks|Thank you|Cheers], that was [really helpful|great|exactly what I needed][!|.]
I'm feeling [sad|lonely|great|tired|anxious|homesick] [today|lately|this week]. [Can we talk?|Say something nice.|]
I just moved to {place} and don't know anyone. How do I make friends?
We visited {place} last year and loved the food. Now I want to cook {food}. Where do I start?
It's raining and I'm stuck at home with a {pet}. Tell me about {science} so I don't get bored.
My kid asked me about {science} at dinner and I had no answer. What should I say?
{person} wants to talk about {history} all the time. What can I read to keep up?
""".strip().splitlines()

TRAIN_WRITTEN = """
What is the difference between SQL and NoSQL?
Should I learn Python or SQL first?
Which database would you recommend for a hobby project?
Why do log files get so big?
What does a log file do?
Explain what cron is
Where does the name cron come from?
Are regular expressions worth learning?
Why are regular expressions so hard to read?
What is the difference between bash and zsh?
Is it safe to use the command line as a beginner?
Do I need to know shell scripting to be a developer?
What's JSON and why is everyone using it?
Is XML dead?
What does ISO stand for?
Why do Americans write the month before the day?
Why does February have 28 days?
Who invented the calendar we use?
Why does the US still use miles and pounds?
Who came up with the metric system?
How accurate are kitchen scales?
Why do some children hate maths?
Do I need to be good at mental arithmetic to be an engineer?
Which language is the hardest to learn?
How many languages are there in the world?
Is Esperanto still spoken?
Why does English have so many French words?
How do babies learn a language?
What makes good customer service?
How would I become a support representative?
I lost my wallet today and feel so stupid. Cheer me up.
My parcel was late and the courier was rude, I needed to vent!
Why are call centres always so slow?
What is an out of memory error, in plain words?
What does a DevOps engineer do?
Why do servers crash?
What is a timeout and why do programs have them?
Are Linux servers better than Windows servers?
My laptop is slow. What could be the reason?
How does Wi-Fi work?
How do I choose a good password?
What is the internet made of?
Is artificial intelligence dangerous?
Are you a human?
What can you do?
What's your favourite colour?
Do you dream?
Tell me a joke
Tell me something I don't know
I can't sleep, talk to me
Give me a compliment
What's the meaning of life?
What is the capital of Australia?
Which is the longest river in the world?
Which ocean is the deepest?
What's the highest mountain in Africa?
How far away is the moon?
Who painted the Mona Lisa?
Who wrote Don Quixote?
Why is the sky blue?
Why do cats purr?
Do fish sleep?
Can dogs see colours?
Is coffee bad for you?
How much water should I drink a day?
Is it ok to exercise with a cold?
What's a good stretch for lower back pain?
How do I ask for a raise?
How do I say no to extra work without sounding rude?
What should I wear to an interview?
Write a cover letter for a job in a bakery
Write me a polite mail to my professor, I was ill last week
Give me three ideas for a rainy weekend
Plan a picnic for me
What should I cook tonight? I have eggs, spinach and cheese
I burnt the rice. How do I clean the pot?
What's the best way to brew coffee at home?
Which book should I read next?
What makes a film a classic?
Who is the best football player ever?
Explain the offside rule
How do you play backgammon?
What does "break a leg" mean?
ok
thanks!
lol nice
hello
hi there
good night
""".strip().splitlines()

HELD_TOPICS: dict[str, str] = {
    "science": "volcanoes|the immune system|quantum computers|fossils|the speed of light|hurricanes|stem cells",
    "history": "the Incas|the Berlin Wall|the Spanish Armada|Marie Curie|the Great Depression|the Phoenicians",
    "place": "New Zealand|Portugal|Jordan|Copenhagen|Bolivia|Dublin|Sri Lanka|Edinburgh",
    "food": "moussaka|gnocchi|clam chowder|dumplings|cheesecake|shakshuka|paella",
    "hobby": "stargazing|archery|calligraphy|beekeeping|the cello|kayaking",
    "pet": "ferret|gecko|greyhound|cockatoo|Siamese cat",
    "person": "my mother-in-law|my coach|the new intern|my cousin|our babysitter",
    "job": "midwife|plumber|sound engineer|park ranger|pharmacist",
    "tech": "a spreadsheet|garbage collection|open source|a data warehouse|a load balancer|a daemon|YAML|Unicode",
    "film": "Blade Runner|Parasite|Frankenstein|Les Miserables|Toy Story",
    "thing": "an old lighthouse|snowflakes|a forgotten song|my grandfather's watch|a shy ghost",
    "view": "four-day weeks|paper books|self-checkout tills|new year's resolutions|homework",
}

HELD_TEMPLATES = """
I never understood {science} at school, could you walk me through it?
Which misconceptions do people have about {science}?
Where could my daughter read up on {history}?
What went wrong for people in the time of {history}?
Three days in {place} with little money: what would you not miss?
Do people in {place} dine late?
Could I prepare {food} a day ahead for guests?
What's the origin of {food}?
At what age can one still start with {hobby}?
Sell me on {hobby} as a weekend thing
Our {pet} has been acting strange since we moved. Normal?
How many years does a {pet} live?
Draft a few warm words for {person}, who is leaving us on Friday
{person} forgot my birthday and I'm hurt, should I bring it up?
What would a {job} tell their younger self?
Does it pay to retrain as a {job} at forty?
Someone at a party mentioned {tech} and I just nodded. What were they on about?
Give me an analogy for {tech}
Make up two lines of verse on {thing}
Begin a fairy tale with {thing} in it
Where do you stand on {view}?
Is there any research on {view}?
Settle a debate for us: is {film} worth seeing twice?
""".strip().splitlines()

HELD_WRITTEN = """
heyyy anyone there? just wanted some company tonight
so I've got a date on saturday and no clue where to take her. she likes art. help?
who was the first person on the south pole
can u explain inflation to me, the money kind, not balloons
my tooth hurts since this morning, dentist is closed until monday. what can i do til then
Could you write a short poem for my nan, she turns 90 and loves roses
why do onions make you cry
Is it rude to leave a party without saying goodbye to everybody?
what's a good first telescope for a beginner? I live in the city so lots of light
i want to get into jazz. which albums first
Our neighbours are loud till 2 at night. We've talked to them twice already. What would you do?
who's your favorite beatle and why
We just adopted an older dog from the shelter. She seems scared of stairs. How do we help her?
How come leap years exist at all?
Who invented SQL, and was it meant for ordinary people?
why do servers keep logs in the first place
Is crontab a word? My scrabble partner says no way
People keep joking that regex is write-only. Why?
whats the point of a terminal when theres windows and a mouse
I work in customer support and I'm exhausted from angry people. How do I switch off after work?
do polyglots mix up their languages sometimes?
Why does the UK drive in miles but buy petrol in litres?
How did people do multiplication in Roman numerals, it looks impossible
what kind of company uses postgres
I keep hearing the word "schema" at work. Just tell me what it means in normal English.
Should I go for a computer science degree or a bootcamp?
I got a new job!!! starting in two weeks and already nervous
Tell me about the deepest cave on earth
what's the best thing to plant on a balcony with no sun
my sourdough starter smells like nail polish, is it dead
how do noise cancelling headphones know what to cancel
Need an out-of-office reply that's a bit funny but not too much
Is there life on other planets, what do you reckon?
who would win, a bear or a gorilla
Can you recommend a tv series for people who liked slow detective stories?
give me a tongue twister
my best mate is getting divorced and I don't know what to say to him
i ran my first 10k today and my knees are killing me. rest or keep moving?
What did people eat in medieval England?
sum up the plot of romeo and juliet, I have class in ten minutes
are mushrooms plants?
Why is my sister always right and how do I cope
Any ideas for a last minute costume? I have a bedsheet and some cardboard
do you get tired of answering questions all day
What's it like to live above the arctic circle in winter?
haha ok you win. good talk, see you tomorrow
""".strip().splitlines()


def train_prompts(rng: random.Random, n: int) -> list[str]:
    """`n` distinct prompts of general chat to fit the router on."""
    return _prompts(rng, n, TRAIN_WRITTEN, lambda: _generate(rng, TRAIN_TEMPLATES, TRAIN_TOPICS, rough=0.25))


def held_out_prompts(rng: random.Random, n: int) -> list[str]:
    """`n` distinct prompts of general chat, the hand-written ones first, that share nothing with `train_prompts`."""
    return _prompts(rng, n, HELD_WRITTEN, lambda: _generate(rng, HELD_TEMPLATES, HELD_TOPICS, rough=0.15))


def _generate(rng: random.Random, templates: list[str], topics: dict[str, str], rough: float) -> str:
    template = expand(rng, rng.choice(templates))
    if rng.random() < rough:
        template = roughen(rng, template)
    text = _SLOT.sub(lambda found: " ".join(rng.choice(topics[found[1]].split("|")).split()), template)
    return text if template[:1].islower() else text[:1].upper() + text[1:]


def _prompts(rng: random.Random, n: int, written: list[str], generate: Callable[[], str]) -> list[str]:
    prompts = dict.fromkeys(written)
    for _ in range(n * 50):
        if len(prompts) >= n:
            return list(prompts)[:n]
        prompts[generate()] = None
    raise ValueError(f"general: only {len(prompts)} distinct prompts where {n} were asked for; ask for fewer")
