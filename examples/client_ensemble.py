"""Ask two experts, within a budget, and see what each of them did."""

from coe_client import Budget, Coe, Options

question = "Is SQL math?"
options = Options(k=2, budget=Budget(calls=4), explain=True)

with Coe() as coe:
    route = coe.route(question, coe=options)
    print(f"would ask {', '.join(route.experts)}: {route.reason}")
    answer = coe.chat(question, coe=options)
    print(answer.text)
    for call in answer.route.calls if answer.route else ():
        print(f"  {call.role} of {call.expert}: {call.error or 'done'}, {call.cost or 0} USD")
