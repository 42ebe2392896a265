"""The console in a real browser, on the whole service with the fake engine."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from benchmarks.live import free_port, service
from tests.browser import pool
from tests.browser.conftest import Open
from tests.browser.console import LONGEST_MS
from tests.browser.pool import Pool

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
DATA = "please help me with the query and the join"


def chat(url: str, key: str, model: str, text: str) -> None:
    """A request of somebody else."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)
    answer.raise_for_status()


def swaps(url: str, key: str) -> list[dict[str, Any]]:
    """The log of all engines."""
    answer = httpx.get(f"{url}/v1/swaps", headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
    found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
    return found


# The way in


def test_a_first_visit_ends_in_a_routed_answer_that_says_why(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    answer = console.ask(DATA)
    expect(answer).to_contain_text(f"sql heard: {DATA}")
    expect(answer).to_contain_text("tokens")
    why = console.page.get_by_role("complementary", name="Why this expert")
    expect(why).to_contain_text("Categories")
    expect(why.get_by_role("meter", name="data")).to_be_visible()
    expect(why).to_contain_text("counsel")  # was considered
    expect(why).to_contain_text("$0.0000")
    answer.get_by_role("button", name="Good answer").click()
    expect(answer.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")


def test_a_route_can_be_had_without_an_answer(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    console.page.get_by_label("Your message").fill("a haiku with a rhyme on autumn")
    console.page.get_by_role("button", name="Route only").click()
    answer = console.page.get_by_role("article")
    expect(answer).to_contain_text("nothing was generated")
    expect(answer).to_contain_text("poet")


def test_a_key_that_does_not_work_is_told_so(live: Pool, visit: Open) -> None:
    console = visit(live.url)
    console.expected.append("status of 401")
    console.page.goto(f"{live.url}/console/")
    console.page.get_by_label("API key").fill("coe-nonsense")
    console.page.get_by_label("API key").press("Enter")
    expect(console.page.get_by_role("alert")).to_contain_text("not known here")
    expect(console.page.get_by_label("API key")).to_be_visible()


def test_the_key_stays_in_the_tab_and_goes_with_signing_out(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    console.open("experts").is_live()
    assert console.value("Object.values(sessionStorage)") == [live.key]
    assert console.value("[Object.values(localStorage).length, document.cookie]") == [0, ""]
    assert not any(live.key in address for address in (*console.asked, console.page.url))
    console.page.get_by_role("button", name="Sign out").click()
    expect(console.page.get_by_label("API key")).to_be_visible()
    assert console.value("Object.values(sessionStorage)") == []


def test_it_is_used_by_keyboard_alone(live: Pool, visit: Open) -> None:
    console = visit(live.url)
    page = console.page
    page.goto(f"{live.url}/console/")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(live.key)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your message")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.get_by_label("Your message").evaluate("box => box === document.activeElement"):
            break
    page.keyboard.type("a contract with a clause")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_contain_text("counsel heard: a contract with a clause")
    page.get_by_role("link", name="Keys").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Keys and usage")).to_be_visible()


# What happens


def test_the_drafts_of_an_ensemble_stand_side_by_side(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    answer = console.ask("which clause of the contract?", "ensemble/panel")
    drafts = answer.get_by_role("region", name="Drafts").get_by_role("group")
    expect(drafts).to_have_count(3)
    for name in ("sql", "python", "counsel"):
        expect(answer.get_by_role("group", name=f"Draft of {name}")).to_contain_text(f"{name} heard: which clause")
    boxes = [drafts.nth(index).bounding_box() for index in range(3)]
    assert len({round(box["y"]) for box in boxes if box}) == 1
    expect(answer).to_contain_text("chosen")
    why = console.page.get_by_role("complementary", name="Why this expert")
    expect(why.get_by_role("row").filter(has_text="draft")).to_have_count(3)


def test_a_swap_is_seen_on_the_timeline_while_it_happens(live: Pool, visit: Open) -> None:
    chat(live.url, live.key, "sql", "first")
    console = visit(live.url).sign_in(live.key).open("timeline")
    console.is_live()
    engine = console.page.get_by_role("region", name="Engine of large")
    expect(engine.locator("header")).to_contain_text("sql")
    log = console.page.get_by_role("region", name="Event log").get_by_role("row")
    past = len(swaps(live.url, live.key))
    expect(log).to_have_count(1 + min(past, 100))  # what was before the stream is asked for beside it
    before = log.filter(has_text="after sql").count()
    chat(live.url, live.key, "python", "then another")
    rows = log.filter(has_text="swap").filter(has_text="after sql")
    expect(rows.first).to_contain_text("python")
    expect(rows).to_have_count(before + 1)
    expect(engine.locator("header")).to_contain_text("python")
    expect(log.filter(has_text="loaded").first).to_contain_text("disk → device")
    console.page.get_by_role("button", name="30 s").click()
    lanes = engine.get_by_role("img")
    box = lanes.bounding_box()
    assert box is not None
    lanes.hover(position={"x": box["width"] - 1, "y": 10})  # the first lane, now
    expect(engine).to_contain_text("python has the turn for")


def test_the_queue_of_an_expert_is_seen_while_it_is_asked(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key).open("timeline")
    console.is_live()
    queue = console.page.get_by_role("region", name="Engine of small").get_by_title("medic: 1 in the queue")
    other = visit(live.url).sign_in(live.key)
    other.page.get_by_label("Who answers").select_option("medic")
    other.page.get_by_label("Your message").fill("word " * 400)
    other.page.get_by_role("button", name="Send").click()
    expect(queue).to_be_visible()
    other.page.get_by_role("button", name="Stop").click()
    expect(other.page.get_by_role("article")).to_contain_text("stopped")
    expect(queue).to_be_hidden()


def test_a_batch_is_seen_from_its_file_to_its_answers(live: Pool, visit: Open, tmp_path: Path) -> None:
    def line(number: int) -> str:
        model = ("sql", "python", "poet")[number % 3]
        body = {"model": model, "messages": [{"role": "user", "content": f"line {number}"}]}
        return json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body})

    requests = tmp_path / "requests.jsonl"
    requests.write_text("\n".join(map(line, range(30))))
    console = visit(live.url).sign_in(live.key).open("batches")
    console.is_live()
    page = console.page
    page.get_by_role("button", name="New batch").click()
    page.get_by_label("File of requests, JSON lines").set_input_files(requests)
    page.get_by_role("button", name="Start").click()
    row = page.get_by_role("row").filter(has_text="batch_").first
    expect(row).to_contain_text("completed", timeout=LONGEST_MS)
    expect(row).to_contain_text("30 of 30")
    detail = page.get_by_role("region", name="Batch batch_")
    expect(detail.get_by_role("meter", name="poet: 10 of 10")).to_be_visible()
    with page.expect_download() as download:
        detail.get_by_role("button", name="answers").click()
    answers = [json.loads(text) for text in Path(download.value.path()).read_text().splitlines()]
    assert sorted(int(answer["custom_id"]) for answer in answers) == list(range(30))


def test_experts_and_router_say_what_was_measured(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key).open("experts")
    quality = console.page.get_by_role("region", name="Table of quality by category")
    for category in pool.GOOD_AT:
        expect(quality.get_by_role("columnheader", name=category)).to_be_visible()
    expect(console.page.get_by_role("region", name="Table of experts").get_by_role("row")).to_have_count(6)
    console.open("router")
    expect(console.page.get_by_role("region", name="Evaluation", exact=True)).to_contain_text("points over")
    expect(console.page.get_by_role("region", name="Fit")).to_contain_text("5-fold cross-validation")


def test_a_decision_can_be_read_later(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    console.ask("please help me with the haiku and the moon")
    console.open("decisions")
    page = console.page
    row = page.get_by_role("row").filter(has_text="poet").first
    row.get_by_role("button").click()
    detail = page.get_by_role("region", name="Decision req-")
    expect(detail).to_contain_text("Categories")
    expect(detail.get_by_role("meter", name="verse")).to_be_visible()


def test_what_is_typed_into_a_filter_stays_while_newer_decisions_come(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    for text in ("please help me with the haiku and the moon", DATA):
        console.ask(text)
    console.open("decisions")
    page = console.page
    rows = page.get_by_role("region", name="Table of decisions").get_by_role("row")
    expect(rows.filter(has_text="sql").first).to_be_visible()
    box = page.get_by_label("Only of this expert")
    box.press_sequentially("po")
    for _ in range(2):  # when the second list is asked for, the first one is shown
        with page.expect_response(lambda response: "/v1/routes?" in response.url):
            pass
    box.press_sequentially("et")
    box.press("Enter")
    expect(rows.filter(has_text="sql")).to_have_count(0)
    expect(rows.filter(has_text="poet").first).to_be_visible()
    expect(box).to_have_value("poet")


# Keys


def test_an_admin_makes_a_key_uses_it_and_revokes_it(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.admin).open("keys")
    page = console.page
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("visitor")
    page.get_by_label("Experts that it may use").fill("poet")
    page.get_by_role("button", name="Make key").click()
    secret = page.get_by_role("dialog").locator(".mono").inner_text()
    assert secret.startswith("coe-")
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("row").filter(has_text="visitor")
    expect(row).to_contain_text("1 expert")

    visitor = visit(live.url).sign_in(secret).open("experts")
    expect(visitor.page.get_by_role("region", name="Table of experts").get_by_role("row")).to_have_count(2)
    visitor.open("timeline").is_live()
    expect(visitor.page.get_by_role("region", name="Engine of small")).to_be_visible()
    expect(visitor.page.get_by_role("main")).not_to_contain_text("medic")
    expect(visitor.page.get_by_role("main")).not_to_contain_text("large")

    page.get_by_role("button", name="visitor").click()
    expect(page.get_by_role("region", name="All keys")).to_contain_text("tokens per day")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    visitor.expected.append("status of 401")
    expect(visitor.page.get_by_label("API key")).to_be_visible(timeout=LONGEST_MS)
    expect(visitor.page.get_by_role("alert")).to_contain_text("revoked")


def test_a_key_without_the_scope_sees_itself_alone(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key).open("keys")
    expect(console.page.get_by_role("region", name="The key of this session")).to_contain_text("requests per day")
    expect(console.page.get_by_role("main")).to_contain_text("scope admin")
    expect(console.page.get_by_role("region", name="All keys")).to_have_count(0)
    assert not any("/admin/" in address for address in console.asked)


# What may go wrong

HOSTILE = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">
[click](javascript:window.hacked=3) ![](https://elsewhere.example/pixel.png)
<a href="https://elsewhere.example">here</a> <style>* { display: none }</style>
| <svg onload="window.hacked = 4"> | b |
|---|---|
| <iframe src="https://elsewhere.example"></iframe> | `</code><script>window.hacked = 5</script>` |
"""


def test_markup_and_script_of_a_model_stay_text(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    for model in ("poet", "ensemble/panel"):
        answer = console.ask(HOSTILE, model)
        for text in ("<script>window.hacked = 1</script>", '<img src=x onerror="window.hacked = 2">', "<svg onload="):
            expect(answer).to_contain_text(text)
        elements = "script, img, iframe, style, a, object, embed, .prose svg"  # beside it are icons of the page's own
        assert answer.locator(elements).count() == 0
    # What would have run in spite of that, the policy of the page stops and tells, which `visit` does not let pass.


def test_a_key_name_with_markup_stays_text(live: Pool, visit: Open) -> None:
    body = {"name": "<img src=x onerror=alert(1)>"}
    headers = {"Authorization": f"Bearer {live.admin}"}
    httpx.post(f"{live.url}/admin/v1/keys", json=body, headers=headers, trust_env=False).raise_for_status()
    console = visit(live.url).sign_in(live.admin).open("keys")
    expect(console.page.get_by_role("button", name="<img src=x onerror=alert(1)>")).to_be_visible()
    assert console.page.locator("main img").count() == 0


def test_an_error_of_the_service_is_shown_as_it_says_it(live: Pool, visit: Open) -> None:
    console = visit(live.url).sign_in(live.key)
    console.expected.append("status of 400")
    console.page.get_by_role("button", name="More options").click()
    console.page.get_by_label("Tokens at most").fill("99999999")
    answer = console.ask(DATA)
    expect(answer.get_by_role("alert")).to_contain_text("max_tokens")


def test_a_service_that_goes_down_and_comes_back(visit: Open, tmp_path: Path) -> None:
    port, arguments = free_port(), ["--fake"]
    with service(tmp_path, arguments, within=300, port=port) as running:
        console = visit(running.url).sign_in(running.key)
        console.is_live()
        expect(console.ask("hello")).to_contain_text("heard: hello")
        console.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"]
    page = console.page
    expect(page.get_by_text("The connection to the service is lost")).to_be_visible()
    expect(console.ask("is anybody there?")).to_contain_text("The service does not answer")
    with service(tmp_path, arguments, within=300, port=port):
        console.is_live()
        expect(page.get_by_text("The connection to the service is lost")).to_be_hidden()
        expect(console.ask("hello again")).to_contain_text("heard: hello again")
