# ruff: noqa: E501 (the data is one phrase or sentence a line)
"""Support intents: a customer's message to the desk of a bank, a shop or a phone provider -> one of twenty labels.

The labels (a message asks for exactly one of them):

    card_lost        card_declined    unknown_charge   transfer_missing     close_account
    loan_request     delivery_status  cancel_order     refund_request       exchange_item
    damaged_item     discount_code    opening_hours    change_address       password_reset
    no_signal        upgrade_plan     invoice_copy     cancel_subscription  speak_to_human

Scorer: first line that is not empty, without code fence, quotes, backticks and a leading "intent:" or "label:"; case folded, spaces
and hyphens count as underscores, a final full stop is dropped. It must then be the label itself.
"""

import random
import re
from collections.abc import Callable

from experts.domains.base import Domain, Question
from experts.domains.general import expand, roughen

# Messages by label; ``[a|b]`` is one of a and b, ``{slot}`` comes from the pools below.
TRAIN_MESSAGES = {
    "card_lost": """
        I [lost|misplaced] my [debit card|credit card|bank card|card] [yesterday|in {city}|at the gym|on the bus|this morning]
        My [wallet|purse|handbag] was stolen [in {city}|last night|] and my [card|bank card|credit card] was in it
        [Someone|A thief] [stole|took] my [card|credit card|debit card] [on the train|in {city}|], [block|freeze] it please
        [Please|Can you|I need you to] [block|freeze|lock|deactivate] my card, [I left it in a taxi|I dropped it somewhere|it is gone]
        I can't find my [credit|debit|bank] card [anywhere|since yesterday|], [what do I do|what now|please help]?
        My card [has gone missing|went missing|disappeared|is missing] [and I am worried someone uses it|]
        How do I report a [lost|stolen|missing] [card|credit card|debit card]?
        I think my card fell out of my pocket in {city}, can you stop it?
        Need a replacement for my [stolen|lost] [card|debit card]
        I left my card in [a restaurant|a cash machine|a shop] in {city} and [it's gone|they don't have it]""",
    "card_declined": """
        My card [was|got|keeps being|is always] [declined|refused|rejected] [at the till|at {shop}|online|in {city}|]
        [Why|How come] was my [card|payment] [declined|refused|rejected] [at {shop}|today|]? [There is enough money on it|]
        I tried to pay [at {shop}|for petrol|in {city}] and the card [didn't work|was not accepted|was refused]
        The terminal says [declined|card not accepted|payment refused] every time I [pay|tap|insert my card]
        My [credit|debit] card doesn't work [abroad|in {city}|in shops|online] [although I have money|even though the limit is fine|]
        Contactless [stopped working|doesn't work] with my card, the machine [beeps red|refuses it]
        Can't pay with my card [at {shop}|anywhere|], it [says declined|gets rejected|fails every time]
        The cash machine [refused my card|would not accept my card|gave me no money and returned my card]
        My card payment of {amount} did not go through [at {shop}|twice|], [why|what is wrong]?
        Your card let me down at the [checkout|restaurant|hotel], payment [refused|denied]""",
    "unknown_charge": """
        There is a [charge|payment|debit] of {amount} [on my statement|on my account|] that I [don't recognise|never made|don't know]
        I don't [recognise|recognize|remember] a [transaction|payment|charge] of {amount} [from {shop}|]
        [What|Who] is this {amount} [charge|debit|payment] [from {shop}|] on my [account|card|statement]?
        Somebody [used my account to buy|bought] something for {amount} and it wasn't me
        I see [strange|unknown|odd|suspicious] [payments|transactions|charges] on my [statement|account]
        I was charged [twice|two times|double] for the same [purchase|payment] [at {shop}|]
        {amount} was taken from my account [without my permission|and I have no idea why|, I did not authorise it]
        I never bought anything at {shop} but they [took|charged me] {amount}
        I want to dispute a [charge|transaction|debit] of {amount} [that isn't mine|]
        Why did you [take|deduct|debit] {amount} from me [yesterday|on Monday|]? I don't know this [payment|charge]""",
    "transfer_missing": """
        I [sent|transferred|wired] {amount} to [my {relative}|{name}] [days ago|on Monday|last week] and it [hasn't arrived|never arrived|is still not there]
        [Where is|What happened to] my [transfer|bank transfer|wire transfer] [of {amount}|to {name}|]?
        My [transfer|money transfer] [of {amount}|to {name}|] is [still pending|stuck|not showing up]
        The money I [sent|transferred] to [my {relative}|{name}] is [missing|nowhere|lost]
        [My {relative}|{name}] [didn't get|has not received|never received] the {amount} I transferred
        I'm waiting for a [bank transfer|transfer] [of {amount}|from {name}|] that [doesn't show up|has not come in]
        How long does a transfer take? Mine [has been pending since Tuesday|is not there after five days]
        My [salary|wages] should have been [transferred|paid in] [on Friday|yesterday] but it is not in my account
        I made a transfer of {amount} [last week|], it left my account but [never reached|didn't get to] {name}
        Money sent from my [savings|current] account to {name} never landed""",
    "close_account": """
        I [want|would like|wish] to close my [account|bank account|savings account]
        [How do I|How can I|Can I] close my [account|bank account|current account] [with you|online|]?
        Please [close|terminate|shut down] my [account|bank account] [by the end of the month|as soon as possible|]
        I'm [leaving your bank|moving to another bank|switching banks], please close [everything|my account]
        [Please delete|Delete|Remove] my [account|customer account|profile] [and all my data|for good|completely]
        I don't [need|use] my [account|savings account] [any more|anymore], [close it|how do I get rid of it]?
        What do I have to do to close [an account|my late {relative}'s account]?
        I have [opened an account elsewhere|a new bank], so [shut|close] this [account|one] please
        I wish to permanently delete my [account|user account|profile] at {shop}
        Closing my account: which form do you need?""",
    "loan_request": """
        I [want|would like|need] to [apply for|take out|get] a [loan|personal loan|car loan|mortgage] [of {amount}|]
        [Can I|Could I|How can I] borrow {amount} [for a car|for a new kitchen|from you|]?
        What [interest|rate|interest rate] do you offer [on|for] a [loan|car loan|personal loan] of {amount}?
        We are [buying|building] a house and [need|are looking for] a [mortgage|loan]
        I'd like [information on|an offer for|advice about] a [personal loan|mortgage|student loan]
        Am I [eligible|qualified] for a [loan|mortgage] [of {amount}|if I am self-employed|]?
        I need money to [renovate my flat|buy a car|pay for my studies], do you [give|offer] loans?
        How much could I borrow with my [salary|income]?
        Which documents [do you need|are needed] for a [loan|mortgage|credit] application?
        My {relative} and I want to finance a [car|boat|kitchen], what [monthly rate|credit] is possible?""",
    "delivery_status": """
        [Where is|Where's] my [parcel|order|package|{item}]? [It should have been here by now|I ordered a week ago|]
        When will my [order|{item}|package] [arrive|be delivered|get here|come]?
        My [parcel|package|order] [hasn't arrived|has not come|is late|is overdue] [yet|]
        I [ordered|bought] {item_a} [two weeks ago|last Monday|ten days ago] and [nothing has come|still nothing|it's not here yet]
        [Can you|Could you] [track|trace|check on] my [order|parcel|shipment] [{order}|]?
        The tracking [page|link|number] [shows nothing|hasn't changed for days|does not work], where is my [parcel|package|order]?
        Has my [order|{item}] [been shipped|shipped|left the warehouse] yet?
        It says [delivered|out for delivery] but I [got nothing|have not received anything|don't have the package]
        Any news on [order {order}|my delivery|my shipment]?
        I've been waiting for my {item} [since last week|for days], what is the [delivery|shipping] status?""",
    "cancel_order": """
        I [want|would like|need] to cancel my order [{order}|for the {item}|]
        Please cancel [order {order}|my order|the order I placed an hour ago|the {item} I ordered]
        [Can I|Is it possible to|How do I] [cancel|stop] an order [before it ships|that I placed today|]?
        I ordered [the wrong thing|{item_a} by mistake|twice by accident], [please cancel|can you cancel it|cancel one of them]
        Don't [send|ship] [order {order}|the {item}], I [changed my mind|don't need it any more|found it cheaper]
        Stop [order {order}|my order] before it [ships|goes out|is sent], please
        I clicked buy by accident, [cancel the order|please undo my order]
        I've changed my mind about the {item} I [ordered|bought] [today|just now], it hasn't shipped, cancel it
        [Withdraw|Call off] my [purchase|order] of the {item}, please do not dispatch it
        My {relative} already bought {item_a}, so I need to cancel the order I placed [today|this morning]""",
    "refund_request": """
        I [want|would like|demand] [a refund|my money back] [for the {item}|for order {order}|]
        [Where is|When do I get|When will I see] my [refund|money back] [for the {item}|]?
        I [returned|sent back] the {item} [two weeks ago|last month] and [haven't been refunded|got no money yet]
        How [do I get|can I get] [a refund|my money back] [for the {item}|]?
        Please [refund|reimburse] [me|the {amount}|my payment] [for order {order}|for the {item}|]
        I'm [not happy|unhappy|disappointed] with the {item} and want my money [back|returned]
        The {item} was a waste, [refund me|give me back my {amount}]
        I sent the {item} back, when will the {amount} be [paid back|refunded|on my account]?
        I'd like to return the {item} and [get the money back|be refunded]
        You still owe me {amount} for the {item} I returned""",
    "exchange_item": """
        The {item} is too [small|big|tight|large|long|short], can I [exchange|swap] it [for another size|]?
        I'd like to [exchange|swap|change] the {item} for [a larger size|a smaller one|another colour|a blue one|a different model]
        [Can I|Could I|How do I] [exchange|swap] [my {item}|the {item} I bought|an item]?
        You sent me the wrong [size|colour|model], I need [size 42|medium|the black one] instead
        The {item} doesn't fit, I need it [one size up|one size smaller|in XL]
        I ordered [red|green|size M] but got [blue|black|size L], please swap it
        Do you have the {item} in [another colour|a bigger size]? I want to trade mine in
        I would prefer the {item} in [grey|white|a size 38], is an exchange possible?
        Got {item_a} as a gift but want [a different colour|another size], is an exchange possible?
        I picked the wrong size for the {item}, send me a [larger|smaller] one in exchange""",
    "damaged_item": """
        The {item} [arrived|came] [broken|damaged|cracked|in pieces|with a scratch]
        My {item} [is broken|is defective|is faulty|doesn't turn on|stopped working] [after one day|out of the box|]
        The [box|package|parcel] was [crushed|wet|torn] and the {item} is [damaged|cracked|dented]
        I [opened|unpacked] the parcel and the {item} was [smashed|in bits|broken|bent]
        There is a [crack|hole|dent|big scratch] in the {item} you sent
        I received a [faulty|defective|broken|damaged] {item} [today|]
        A part of the {item} is [missing|broken off], it's unusable
        The {item} [leaks|makes a burning smell|has a hole], it must be defective
        Your courier [dropped|damaged] my {item}, [look at the photos|it's ruined]
        The {item} from order {order} is [dead on arrival|broken], what do I do with it?""",
    "discount_code": """
        My [discount code|promo code|voucher|coupon] [doesn't work|isn't accepted|is invalid] [at checkout|]
        The code [SAVE10|SPRING20|WELCOME5] [gives an error|is not accepted|does nothing]
        [How|Where] do I [enter|use|redeem] my [voucher|discount code|coupon|gift code]?
        [Do you have|Are there|Is there] [any|a] [discount|promo|coupon] code[s|] [for students|for new customers|right now|]?
        I forgot to [enter|use] my [promo code|voucher] when I ordered, can you apply it?
        The website says my [voucher|coupon] has expired but [it is valid until {month}|I got it yesterday]
        I got a [ten|twenty] percent [coupon|voucher] in your newsletter, it [fails|won't apply]
        The [discount|reduction] was not taken off [my basket|at checkout|the total]
        Can I [combine|use] two [vouchers|coupons|promo codes] in one order?
        Your newsletter promised a discount [code|coupon] and I never received [it|one]""",
    "opening_hours": """
        [When|What time] [are you open|do you open|do you close] [on Saturdays|on Sundays|today|tomorrow|in {city}|]?
        What are your [opening hours|opening times|business hours] [in {city}|at the weekend|]?
        Is [the branch|your shop|the store] in {city} open [on Sundays|on public holidays|tomorrow|today]?
        Until [when|what time] is [the shop|your branch|the store] open [on Fridays|tonight|]?
        Are you [open|closed] [on Easter Monday|over Christmas|on the 1st of {month}|this Saturday]?
        Can I [come by|drop in|visit the shop] [after six|before nine|on a Sunday], or is it closed?
        How late can I come to [the branch|your store|the office] in {city}?
        Do you close for lunch [in {city}|at the {city} branch|]?
        From what time [can I visit|is someone at] the branch in {city}?
        Please tell me the [hours|opening times] of [your store|the branch] in {city}""",
    "change_address": """
        I [moved|have moved|am moving] [to {city}|house|], [please update|how do I change|change] my address
        [How|Where] do I [change|update|edit] my [address|postal address|delivery address|billing address]?
        My [new address|address from {month} on] is {number} {street}, {city}
        Please [send|deliver] [everything|my letters|my mail] to my new [home|flat|address] in {city}
        [You have|My account shows] [the wrong|an old] [address|street|house number] [for me|]
        I need to [update|correct|change] the address [on my account|for order {order}|in my profile|]
        We relocate to {city} in {month}, [note the new address|where do I enter the new address]?
        My letters still go to my old [flat|address|place], please [fix|change] that
        Change of address: now {number} {street} in {city}
        The house number in my profile is wrong, it should be {number} {street}""",
    "password_reset": """
        I [forgot|can't remember|have forgotten] my [password|login|PIN for the app] [again|]
        [How do I|How can I|I need to] reset my [password|login password|passcode]?
        I [can't|cannot] [log in|sign in|get into my account], [it says wrong password|my password is not accepted]
        The [password reset|reset] [link|mail|email] [never arrives|doesn't come|has expired]
        I'm locked out of [my account|the app|online banking] [after three wrong tries|]
        Please send me a [new password|link to set a new password|reset link]
        My [password|login] [doesn't work|is rejected] [since the update|any more|]
        The app [doesn't accept|rejects] my password [since yesterday|]
        Can you unlock my [login|account]? I typed the wrong password too often
        Need a new password for [online banking|the shop|the customer portal]""",
    "cancel_subscription": """
        I [want|would like|wish] to cancel my [subscription|membership|contract|plan] [as of {month}|]
        [How do I|How can I|Where can I] [cancel|end|terminate] my [subscription|membership|contract|phone contract]?
        Please [end|stop|terminate|cancel] my [subscription|monthly plan|membership|contract] [at the end of {month}|immediately|]
        I don't want to [renew|extend|continue] my [subscription|membership|contract]
        [Stop|Please stop] [charging me every month|the auto-renewal|billing me monthly], I [no longer use|don't need] the service
        I'm [switching|moving] to another provider, [cancel my contract|end my plan]
        Unsubscribe me from [the premium plan|your paid service|the monthly box]
        Turn off automatic renewal [of my plan|] please
        My [trial|free month] ends soon and I don't want to [continue|pay], please cancel [the subscription|]
        Notice of cancellation: my [contract|membership] shall end in {month}""",
    "upgrade_plan": """
        I [want|would like|need] [more data|a bigger data plan|a faster tariff|a better plan]
        [How do I|Can I|How can I] [upgrade|switch] to [the premium plan|a bigger plan|unlimited data|the family plan]?
        I [run out of|use up all my] data [every month|by the tenth], which [bigger plan|larger plan|tariff] [do you have|is there]?
        I'd like to [upgrade|move up] [my plan|my tariff|my contract] to [unlimited|20 GB|the next level]
        What does it cost to [upgrade to|get] [unlimited data|the premium tariff|faster internet]?
        Please [raise|increase|upgrade] my [data volume|plan|tariff|internet speed]
        Is there a [faster|bigger|better] [plan|tariff|package] than mine?
        I want to add [my {relative}|a second phone] and move to the family plan
        My plan is too small for me now, what [bigger options|larger tariffs] are there?
        Put me on the [gold|premium|unlimited] [plan|tariff] from {month}""",
    "no_signal": """
        I have [no signal|no network|no reception|no coverage] [in {city}|since this morning|at home|]
        My phone [shows no service|says no network|can't find a network|has no bars] [since yesterday|]
        [The internet|The network|Mobile data] [is down|doesn't work|has stopped working] [in {city}|here|]
        [Is there|Do you have] an outage in {city}? [My phone|Nothing] [has no signal|works]
        Calls [keep dropping|drop all the time|don't go through] [in {city}|at home|]
        I can't [call anyone|make calls|send texts|use mobile data] [since last night|since noon|], [no signal|no bars]
        Reception in {city} is [terrible|gone|awful] [today|this week|]
        My [router|home internet|broadband] [has been offline|has no connection|is dead] [since Monday|for hours|]
        Only emergency calls are possible [on my phone|in {city}|]
        Zero bars on my phone [in {city}|the whole day|], is a mast broken?""",
    "invoice_copy": """
        I need [a copy of|] my [invoice|bill|receipt] [for {month}|for order {order}|for the {item}|for the tax office]
        [Can you|Could you|Please] [send|email|mail] me [the invoice|my bill|a receipt] [for {month}|for order {order}|again]?
        [Where|How] [can|do] I [find|download|get] my [invoices|bills|receipts] [online|]?
        I [lost|deleted|can't find] the [receipt|invoice] for [the {item}|order {order}], can I have [another|a copy|it again]?
        My [accountant|employer] [needs|wants] an invoice [for the {item}|for {month}|] [with VAT|]
        I never got a [bill|receipt|invoice] for [{month}|order {order}|the {item}]
        Please issue [an invoice|a receipt] in my company's name for order {order}
        Send me last month's [bill|invoice] as PDF
        There was no [invoice|receipt] in the [box|parcel] with the {item}, please send one
        For my taxes I need the [bills|invoices] from {month}""",
    "speak_to_human": """
        I [want|would like|need] to [talk|speak] to [a human|a real person|a person|someone]
        [Can I|Could I|Let me] [talk|speak] [to|with] [a real person|a member of staff|a human|somebody real] [please|]?
        [Stop|Enough] with the bot, [give me|connect me to|put me through to] [a person|an employee|a human]
        This [chatbot|robot|bot] is [useless|no help], I want [a human|a real person|an actual person]
        [Connect|Transfer|Put] me [to|through to] [a representative|an operator|an adviser|a colleague]
        Which number can I [call|ring] to [reach|speak to] [someone|a person]?
        [Please|Can somebody] call me [back|], I want to [discuss it|speak] with [a person|somebody] [on the phone|]
        Is there [a human|anybody real|a live person] in this chat?
        I don't want to talk to a [machine|computer|robot]
        operator please""",
}

HELD_MESSAGES = {
    "card_lost": """
        Pickpockets in {city} got hold of my debit card, stop all payments with it
        Think I forgot my credit card on a park bench, can it be deactivated?""",
    "card_declined": """
        Standing at the cash desk of {shop} and my card is turned down again and again
        Paying for {item_a} failed, the reader rejects my card despite plenty of money""",
    "unknown_charge": """
        {shop} has debited {amount} and I have never heard of them
        On the bank statement I spotted {amount} that neither I nor my {relative} spent""",
    "transfer_missing": """
        {name} is still waiting for the {amount} that I wired on the 3rd
        Made a transfer to my {relative}, a week later it still has not been credited""",
    "close_account": """
        As I am emigrating to {city}, I'd like my current account closed
        Kindly shut my account and wipe my personal data""",
    "loan_request": """
        Would you lend me {amount} to start a small business?
        Thinking of getting a mortgage for a flat in {city}, what are the conditions?""",
    "delivery_status": """
        Five days since the confirmation mail and the courier still has not brought my {item}, where is it?
        On which day can I expect the package with the {item}?""",
    "cancel_order": """
        Could you take back the order for the {item} that I made ten minutes ago? I don't want it shipped
        Order {order} was a mistake by my {relative}, please cancel it before it is packed""",
    "refund_request": """
        The {item} went back to you three weeks ago but you haven't paid back the {amount}
        Not what I hoped for, so I am returning the {item} and expect a full refund""",
    "exchange_item": """
        Could I trade the {item} for the same thing in a bigger size?
        My {relative} would rather have the {item} in yellow, can we swap it?""",
    "damaged_item": """
        When I took the {item} out of the box one side was shattered
        The new {item} is faulty, it won't even switch on""",
    "discount_code": """
        Checkout refuses the voucher SUMMER15, it says unknown code
        Is a coupon for first time buyers available at the moment?""",
    "opening_hours": """
        At what hour does the branch in {city} close on Thursdays?
        Will the shop be open on New Year's Eve?""",
    "change_address": """
        From next week I live at {number} {street} in {city}, please put that in my file
        Got married and moved in with my {relative}, so my postal address is different now""",
    "password_reset": """
        None of the passwords I try is right, how can I set a fresh one?
        The login page has blocked me because I forgot my password""",
    "cancel_subscription": """
        After {month} I'd like to stop being a member, what is the notice period to cancel?
        Do not prolong my phone contract, I quit""",
    "upgrade_plan": """
        My gigabytes are gone after two weeks, which larger tariff would you offer?
        I'd pay a bit more per month for unlimited data, how do I switch up?""",
    "no_signal": """
        Driving through {city} my phone lost its network and has not come back
        Since the storm there's no reception at all in our village""",
    "invoice_copy": """
        For the tax return I need proof of payment, a bill for the {item}
        Would you email the {month} invoice to me as a PDF once more?""",
    "speak_to_human": """
        Is a living person available or only this bot?
        Have an employee ring me, I am tired of automatic answers""",
}

TRAIN_POOLS = {
    "city": "Leeds|Boston|Hamburg|Lyon|Madrid|Denver|Bristol|Turin|Oslo|Austin|Ghent|Zurich|Porto|Glasgow|Dallas|Gdansk"
    "|Malmo|Graz|Nantes|Toledo|Perth|Ottawa|Bergen|Cork|Reading|Seville|Basel|Utrecht",
    "shop": "Kaufmann|GreenMart|Techno World|QuickFuel|BookBarn|Petit Paris|StarBuy|Nova Games|Hotel Adler|Urban Shoes"
    "|Fresh Corner|Music Box|TravelNow|PetPlanet|Casa Bella|Daily Deli|GadgetHub|Sun Apparel",
    "item": "jacket|kettle|lamp|headphones case|sneaker pair|toaster|backpack|monitor|dress|coffee machine|sofa|keyboard"
    "|winter coat|phone cover|blender|sweater|desk|guitar|tent|vacuum cleaner|watch|carpet|shirt|mirror|printer|skirt"
    "|bicycle helmet|tablet|suitcase|rain jacket|mixer|chair|camera|pan|hoodie|game console|drill|shelf|vase|speaker",
    "relative": "sister|brother|mother|father|daughter|son|husband|wife|cousin|grandson|aunt|uncle",
    "name": "Mr Novak|Anna|my landlord|Peter Lind|Carla|a friend|the garage|Tom|the insurance|Mrs Olsen|Jonas|the school",
    "street": "Mill Lane|Park Road|Station Street|Oak Avenue|Church Walk|Kings Road|Garden Street|Lake View|Hill Street",
    "month": "January|March|April|May|July|August|October|November",
}
HELD_POOLS = {
    "city": "Nottingham|Verona|Portland|Rostock|Aarhus|Tampa|Valencia|Limerick|Brno|Dijon",
    "shop": "Maison Lune|ByteStore|Oak & Pine|Velvet Cinema|Grill House 9|Sportella|Kiosk24|Orbit Travel",
    "item": "waffle iron|trench coat|hair dryer|office chair|soundbar|raincoat|smartwatch|rucksack|microwave|cardigan",
    "relative": "nephew|niece|partner|grandmother|stepson|flatmate",
    "name": "Mr Okafor|Beatriz|the dentist|my tenant|Dr Weiss|Lucinda|the plumber",
    "street": "Elm Crescent|Harbour Row|Violet Close|Tanner Street|Abbey Gate",
    "month": "February|June|September|December",
}

TRAIN_TEMPLATES = """
Label the intent of this support message: {m}
Label the intent of this [customer message|ticket|support request]: "{m}"
What is the intent of this [customer message|support message|ticket]? {m}
What is the intent label for: {m}
[Which|What] intent [is this|does this customer message have]? {m}
Classify this [customer|support] message by intent: "{m}"
Classify the [customer's intent|support ticket|request]: {m}
Intent? {m}
intent: {m}
"{m}" - which support intent is that?
"{m}" [What does the customer want? Answer with the intent label.|Give the intent label.|Intent label please.]
Customer: {m} Intent:
A customer writes: "{m}" [What is the intent?|Which intent label fits?|Which label does this ticket get?]
Tag this [ticket|support ticket|message|chat message] with its intent: {m}
Support ticket: {m} [Reply with the intent label only.|Which intent?|Intent label:]
Please tag [the following|this] customer [message|mail|request] with [one|the right] intent label. {m}
[Route|Sort] this [ticket|support message] for [me|the help desk], answer with the intent label only: {m}
Name the intent (one label, snake_case) of the message "{m}"
One label only: what is the customer's intent? {m}
Our help desk got this: "{m}". [Which intent is it?|Label the intent.|What intent label applies?]
[Hi|Hey], [can you|could you] label the intent of this support message for me? {m}
I'm sorting support tickets. What intent is "{m}"?
Message to customer service: {m} What is the intent label?
Identify the [support intent|intent] behind [this message|these words]: "{m}"
Determine the intent of the following customer query. {m}
Give me the intent label for this support chat line: {m}
[Bank|Shop|Phone] customer says: "{m}" -> intent label?
Read the customer message and answer with its intent label. Message: {m}
Intent classification. Input: {m}
Assign a support intent to this: {m}
This came in by mail at the support desk: "{m}" Label it with an intent.
The customer's words are "{m}". What's the intent? [Only the label.|]
New ticket in the support queue: {m} - label?
Under which intent would you file this support request? {m}
""".strip().splitlines()

HELD_TEMPLATES = """
Someone wrote to our support desk: {m} Which intent label should I put on it?
Support inbox, intent wanted: "{m}"
Please work out the intent label of this complaint or question from a client: {m}
Ticket text >> {m} << intent label =
Client said "{m}"; intent label?
Could you tell me in one label what this customer of ours is after? "{m}"
Help me triage the support queue by intent. The message reads: {m}
Pick the support intent that matches: {m}
For the dashboard I need the intent label of this customer request: {m}
Incoming chat from a customer, {m} (intent label, nothing else)
What support intent would you assign here? "{m}"
Just the intent label, please, for this customer text: {m}
""".strip().splitlines()

TRAIN_BEFORE = (
    "Hi,|Hello,|Good morning,|Hey,|Dear team,|Hi there!|Hello support,|Good afternoon.|I've been a customer for years.|Sorry"
    " to bother you,|Quick question:|It's me again.|I hope you can help me.|Not sure if this is the right place.|Urgent!"
)
TRAIN_AFTER = (
    "Thanks|Thank you in advance.|Please help.|Best regards, {name}|Can you help me?|Thanks a lot!|Please hurry.|Cheers"
    "|I look forward to your answer.|This is urgent.|Kind regards|I'm really annoyed.|Greetings from {city}"
)

HELD_WRITTEN = [
    ("card_lost", "whats the intent here: omg my purse got nicked on the tube and my bank card is in there, pls block it!!"),
    ("card_lost", "Label this support msg with an intent pls. 'cant find my visa card, looked everywhere, can u freeze it'"),
    ("card_declined", "intent of this customer message?? tried 3 times to pay for groceries and ur card gets declined every time"),
    ("card_declined", "We got this at the bank's help desk today: 'So embarrassing, took my date to dinner and my card was refused. I got paid yesterday!' Intent label?"),
    ("unknown_charge", "Label the intent: there's 49.99 on my statement from some company i've never even heard of, wtf is that"),
    ("unknown_charge", "customer says somebody made a payment of 200 euros from her account and she didnt do it. Intent label?"),
    ("transfer_missing", "Support message, which intent? I wired 300 to my mum on monday, she says nothing has come in yet. Where's the money?"),
    ("transfer_missing", "intent label pls - \"sent money to my flatmate 4 days ago and he still doesnt have it\""),
    ("close_account", "What's the intent of: hey i opened an account with a different bank so please close mine, ta"),
    ("loan_request", "Tag the intent of this mail to the bank. 'My old car finally died and I need about 6000 for another one. Could I get a loan for it?'"),
    ("delivery_status", "intnet of this msg? 'ordered a birthday gift last week, bday is tmrw, wheres my parcel???'"),
    ("delivery_status", "A customer is asking: has my stuff been sent yet, I ordered on Sunday. Please label the intent."),
    ("cancel_order", "Which support intent is this: oh no i ordered two of the same by accident just now, cancel the second order please"),
    ("cancel_order", "label intent -> pls dont ship my order anymore i dont need it, cancel"),
    ("refund_request", "Hi, intent label for this ticket? \"You got the boots back 2 wks ago. Still no money on my account. I want my refund\""),
    ("exchange_item", "customer chat: shoes are lovely but way too tight, can i swap them for a 43? / intent?"),
    ("exchange_item", "Intent of this one please: The colour looks different at home. Could I change it for the green one?"),
    ("damaged_item", "Give the intent label. \"just unpacked my new tv and the screen is cracked from left to right :(\""),
    ("damaged_item", "support ticket intent? teapot came in a hundred pieces, packaging was a joke"),
    ("discount_code", "what intent is it when a customer writes 'ur 20% code isnt working when i check out'"),
    ("opening_hours", "Label the intent of this: are u guys open on sunday or only mon to sat?"),
    ("opening_hours", "intent label for \"till when can i come to the shop tonight\""),
    ("change_address", "A customer wrote us: We've just moved! New place is 12 Birch Road. Can you update our address? Which intent label is right?"),
    ("password_reset", "classify intent: cant get into the app anymore, forgot my password and the reset mail isnt coming"),
    ("password_reset", "Which intent label? 'It keeps telling me wrong password. I'm 100% sure it's right. Now I'm locked out.'"),
    ("cancel_subscription", "intent pls: i never use the gym app so stop my monthly subscription, thx"),
    ("cancel_subscription", "Support mail: 'Hello, my phone contract runs out in June and I do not want to renew it.' What is the intent label?"),
    ("upgrade_plan", "customer msg 'my data is always gone by the 15th, how do i get a bigger plan?' -> intent"),
    ("no_signal", "Please label the intent. Message: phone says no service since I woke up, is the network down?"),
    ("no_signal", "whats the intent of 'i get zero bars in my own kitchen, cant even call my mom'"),
    ("invoice_copy", "Label this customer request with its intent: my boss needs a receipt for the laptop, can you send it again? I deleted the mail."),
    ("invoice_copy", "intent? could u mail me the bill from march, need it for taxes"),
    ("speak_to_human", "What intent would you give this: ugh this bot understands nothing. get me a real person"),
]  # fmt: skip

LABELS = tuple(TRAIN_MESSAGES)


def train(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions, every label equally often."""
    return _distinct(n, [], lambda i: _question(rng, LABELS[i % len(LABELS)], held=False))


def held_out(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions from wordings, templates and pools of their own, the hand-written ones first."""
    written = [Question(prompt, label, source="human") for label, prompt in HELD_WRITTEN]
    return _distinct(n, written, lambda i: _question(rng, LABELS[i % len(LABELS)], held=True))


def score(question: Question, output: str) -> bool:
    """Is the output the label? See the module docstring for what is normalised."""
    lines = [line for line in re.sub(r"```\w*\n", "", output).splitlines() if line.strip("` \t")]
    if not lines:
        return False
    label = lines[0].strip().strip("\"'`*").strip().casefold()
    label = re.sub(r"^(?:the )?(?:intent|label)(?: is)?\s*:?\s+", "", label).strip("\"'`*. ")
    return re.sub(r"[\s-]+", "_", label) == question.answer


def _question(rng: random.Random, label: str, held: bool) -> Question:
    pools = HELD_POOLS if held else TRAIN_POOLS
    messages = (HELD_MESSAGES if held else TRAIN_MESSAGES)[label].strip().splitlines()
    message = expand(rng, rng.choice(messages).strip())
    if message[-1] not in ".?!":
        message += rng.choice([".", ".", "!", ""])
    if not held and rng.random() < 0.25:
        message = f"{rng.choice(TRAIN_BEFORE.split('|'))} {message}"
    if not held and rng.random() < 0.2:
        message = f"{message} {rng.choice(TRAIN_AFTER.split('|'))}"
    template = expand(rng, rng.choice(HELD_TEMPLATES if held else TRAIN_TEMPLATES))
    if not held and rng.random() < 0.3:
        message = roughen(rng, message)
    if not held and rng.random() < 0.2:
        template = roughen(rng, template)
    filled = re.sub(r"\{(\w+)\}", lambda found: _slot(rng, pools, found[1]), message)
    if message[:1] == "{":
        filled = filled[:1].upper() + filled[1:]
    return Question(template.replace("{m}", filled), label)


def _slot(rng: random.Random, pools: dict[str, str], name: str) -> str:
    if name == "amount":
        value = f"{rng.randrange(5, 3000)}{rng.choice(['', '', '.50', '.99'])}"
        return rng.choice([f"{value} euros", f"${value}", f"{value} pounds", f"{value} EUR", f"£{value}"])
    if name == "number":
        return str(rng.randrange(1, 190))
    if name == "order":
        return f"{rng.choice(['', '#', 'no. '])}{rng.randrange(10_000, 999_999)}"
    if name == "item_a":
        item = _slot(rng, pools, "item")
        return f"{'an' if item[0] in 'aeiou' else 'a'} {item}"
    return rng.choice(pools[name].split("|"))


def _distinct(n: int, first: list[Question], make: Callable[[int], Question]) -> list[Question]:
    questions = {question.prompt.casefold(): question for question in first}
    for i in range(n * 50):
        if len(questions) >= n:
            return list(questions.values())[:n]
        question = make(i)
        questions.setdefault(question.prompt.casefold(), question)
    raise ValueError(f"intent: only {len(questions)} distinct questions where {n} were asked for; ask for fewer")


DOMAIN = Domain(
    name="intent",
    summary="Labels the intent of a customer's message to a bank, shop or phone provider (card_lost, refund_request, ...)",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=12,
    examples=2048,
)
