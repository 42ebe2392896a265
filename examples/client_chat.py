"""Ask, and see who answered and why. COE_URL and COE_API_KEY say where and as whom."""

from coe_client import Coe

with Coe() as coe:
    answer = coe.chat("Which SQL lists the names of users older than 30? Table users(id, name, age)")
    print(answer.text)
    if answer.route:
        print(f"[{answer.route.expert}] {answer.route.reason}")
    coe.feedback(answer, thumbs="up")
