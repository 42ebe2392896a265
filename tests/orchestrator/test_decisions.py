"""/v1/route and /v1/routes: decisions alone, and the records of those that were made, over a real Redis."""

import re
from typing import Any

import jsonschema
import pytest

from orchestrator.access.grant import Grant
from orchestrator.records import Kept
from orchestrator.store import Store
from tests.orchestrator.chat_parts import CHAT, USER
from tests.orchestrator.parts import GENERALIST, MATH, SQL, Service

Row = dict[str, Any]


async def asked(service: Service, prompt: str = "some sql please", **fields: Any) -> Row:
    """The answer to a chat."""
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], **fields}
    answer = await service.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


async def get(service: Service, path: str, key: str | None = None) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    answer = await service.http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


# /v1/route


async def test_route_tells_the_decision_and_generates_nothing(service: Service) -> None:
    for body in ({"prompt": USER["content"], "coe": {"k": 2}}, {**CHAT, "coe": {"k": 2}}):
        response = await service.http.post("/v1/route", json=body)
        route = response.json()
        assert (route["object"], route["experts"], route["aggregator"]) == ("route", [SQL, GENERALIST], "joined")
        assert route["explain"]["weights"] == {SQL: 0.5, GENERALIST: 0.5}
        assert response.headers["x-coe-expert"] == "sql,generalist"
    assert not service.engine.calls
    response = await service.http.post("/v1/route", json={"prompt": "x", "model": "nobody"})
    assert response.json()["error"]["code"] == "model_not_found"
    shown = (await service.http.get("/metrics")).text
    assert f'coe_requests_total{{expert="{SQL}",key_class="normal",outcome="routed",route="decision"}} 2.0' in shown
    assert 'outcome="model_not_found",route="decision"} 1.0' in shown
    assert re.search(r'^coe_routed_total\{.*router="keyword"\} 2.0$', shown, re.M)
    assert "coe_request_seconds_count" not in shown, "nothing was answered"


# Records


async def test_a_record_has_the_explained_route_of_its_answer(service: Service) -> None:
    answer = await asked(service, coe={"explain": True})
    record = await get(service, f"/v1/routes/{answer['id']}")
    assert record["coe"] == answer["coe"]
    assert list(record["coe"]["explain"]["skills"].items()) == [("joins", 4.25), ("'the'", -1.5)]
    assert record["object"] == "route.record"
    assert (record["id"], record["model"], record["outcome"]) == (answer["coe"]["request_id"], "auto", "ok")
    assert (record["expert"], record["experts"], record["score"], record["feedback"]) == (SQL, [SQL], None, None)
    assert record["key"] == {"id": (await service.keys.list())[0].lineage, "name": "test"}
    assert (record["prompt_tokens"], record["completion_tokens"], record["cost"]) == (3, 5, None)
    assert 0 < record["router_seconds"] <= record["seconds"]
    assert record["first_token_seconds"] is None, "it was not streamed"
    assert record["admission_seconds"] >= 0
    assert record["prompt"] is None
    assert await get(service, f"/v1/routes/{record['id']}") == record


async def test_an_ensemble_has_all_its_calls_and_nobody_alone(service: Service) -> None:
    answer = await asked(service, coe={"k": 3, "explain": True}, stream=False)
    record = await get(service, f"/v1/routes/{answer['id']}")
    drafts, answer["coe"]["explain"]["drafts"] = answer["coe"]["explain"]["drafts"], []
    assert len(drafts) == 3
    assert answer["coe"]["explain"]["votes"] == {"all": 1.0}
    answer["coe"]["explain"]["votes"] = {"answer 1": 1.0}
    assert record["coe"] == answer["coe"]  # which has all but what was said
    assert (record["expert"], record["aggregator"], len(record["coe"]["calls"])) == (None, "joined", 3)


async def test_calls_say_where_their_seconds_went_in_the_engine(service: Service) -> None:
    [call] = (await asked(service))["coe"]["calls"]
    assert call["phases"].keys() == {"queue", "swap", "prefill", "decode"}
    assert sum(call["phases"].values()) <= call["seconds"] + 0.01


async def test_a_decision_alone_is_kept_too(service: Service) -> None:
    answer = await service.http.post("/v1/route", json={"prompt": "math?"})
    record = await get(service, f"/v1/routes/{answer.json()['request_id']}")
    assert (record["outcome"], record["experts"], record["seconds"]) == ("routed", [MATH], None)
    assert record["coe"]["calls"] == []


async def test_a_failure_is_kept_with_its_cause(service: Service) -> None:
    service.engine.fail_next("deadline")
    answer = await service.http.post(
        "/v1/chat/completions", json={"model": SQL, "messages": [{"role": "user", "content": "x"}]}
    )
    record = await get(service, f"/v1/routes/{answer.headers['x-request-id']}")
    assert (record["outcome"], record["coe"]["calls"][0]["error"]) == ("deadline", "deadline: scripted failure")


async def test_the_list_is_of_ones_own_newest_first_and_in_pages(service: Service) -> None:
    ids = [(await asked(service, f"number {n}"))["coe"]["request_id"] for n in range(5)]
    first = await get(service, "/v1/routes?limit=2")
    assert [row["id"] for row in first["data"]] == [ids[4], ids[3]]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[4], ids[3], True)
    rest = await get(service, f"/v1/routes?limit=3&after={first['last_id']}")
    assert [row["id"] for row in rest["data"]] == ids[2::-1]
    assert not rest["has_more"]
    whole = await get(service, f"/v1/routes/{ids[4]}")
    assert {name: value for name, value in whole.items() if name in first["data"][0]} == first["data"][0] | {
        "object": "route.record"
    }


async def test_the_list_may_be_of_an_expert_a_category_an_outcome_or_a_model(service: Service) -> None:
    await asked(service, "sql")
    service.router.category = "other"
    await asked(service, "math")
    await service.http.post("/v1/route", json={"prompt": "sql"})
    await asked(service, "hello", model=GENERALIST)

    async def found(query: str) -> list[tuple[str, str]]:
        rows = (await get(service, f"/v1/routes?{query}"))["data"]
        return [(row["experts"][0], row["outcome"]) for row in rows]

    assert await found(f"expert={SQL}") == [(SQL, "routed"), (SQL, "ok")]
    assert await found(f"expert={SQL}&limit=1") == [(SQL, "routed")]
    assert await found("category=other&outcome=ok") == [(MATH, "ok")]
    assert await found(f"model={GENERALIST}") == [(GENERALIST, "ok")]
    assert await found("outcome=client_gone") == []


async def test_a_filter_looks_at_so_many_records_and_says_where_to_go_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.http.decisions.LOOKED_AT", 2)
    monkeypatch.setattr("orchestrator.http.decisions.MOST_LOOKED_AT", 4)
    wanted = (await asked(service, "math?"))["coe"]["request_id"]
    for _ in range(5):
        await asked(service)
    first = await get(service, f"/v1/routes?expert={MATH}")
    assert (first["data"], first["has_more"]) == ([], True)
    second = await get(service, f"/v1/routes?expert={MATH}&after={first['last_id']}")
    assert [row["id"] for row in second["data"]] == [wanted]
    third = await get(service, f"/v1/routes?expert={MATH}&after={second['last_id']}")
    assert (third["data"], third["has_more"], third["last_id"]) == ([], False, None)


async def test_a_key_does_not_see_the_records_of_others_and_an_admin_does(service: Service) -> None:
    answer = await asked(service)
    other, _ = await service.keys.create("other")
    admin, _ = await service.keys.create("boss", Grant(admin=True))
    owner = (await get(service, f"/v1/routes/{answer['id']}"))["key"]["id"]
    hidden = await service.http.get(f"/v1/routes/{answer['id']}", headers={"authorization": f"Bearer {other}"})
    missing = await service.http.get("/v1/routes/req-0", headers={"authorization": f"Bearer {other}"})
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "answer_not_found")
    assert hidden.json()["error"]["message"].replace(answer["id"], "req-0") == missing.json()["error"]["message"]
    assert (await get(service, "/v1/routes", other))["data"] == []
    assert (await get(service, f"/v1/routes?key={owner}", other))["data"] == []
    assert len((await get(service, "/v1/routes", admin))["data"]) == 1
    assert len((await get(service, f"/v1/routes?key={owner}", admin))["data"]) == 1
    assert (await get(service, "/v1/routes?key=nobody", admin))["data"] == []
    assert (await get(service, f"/v1/routes/{answer['id']}", admin))["key"]["name"] == "test"


async def test_a_rotated_key_sees_what_came_before(service: Service) -> None:
    answer = await asked(service)
    [info] = await service.keys.list()
    new, _ = await service.keys.rotate(info.id, 60)
    assert (await get(service, f"/v1/routes/{answer['id']}", new))["outcome"] == "ok"


async def test_feedback_stands_in_record_and_list(service: Service) -> None:
    answer = await asked(service)
    await service.http.post("/v1/feedback", json={"id": answer["id"], "score": 0.25})
    record = await get(service, f"/v1/routes/{answer['id']}")
    assert (record["score"], record["feedback"]["score"]) == (0.25, 0.25)
    assert [row["score"] for row in (await get(service, "/v1/routes"))["data"]] == [0.25]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/routes/req-0", 404),
        ("/v1/routes/*", 404),
        ("/v1/routes?after=req-0", 404),
        ("/v1/routes?limit=0", 400),
        ("/v1/routes?limit=101", 400),
        ("/v1/routes?limt=1", 400),
        ("/v1/routes?limit=1&limit=2", 400),
    ],
)
async def test_what_is_not_there_or_not_allowed_is_an_error_of_openais_shape(
    service: Service, path: str, status: int
) -> None:
    answer = await service.http.get(path)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_records_are_as_the_document_says(service: Service) -> None:
    await asked(service, coe={"k": 2})
    found = await get(service, "/openapi.json")
    listed = await get(service, "/v1/routes")
    for path, content in (
        ("/v1/routes", listed),
        ("/v1/routes/{id}", await get(service, f"/v1/routes/{listed['last_id']}")),
    ):
        schema = found["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(content, {**schema, "components": found["components"]})


# Content


async def test_the_prompt_is_kept_only_where_it_is_allowed_and_given_to_its_owner(store: Store) -> None:
    service = await Service.start(store, records=Kept(content=True))
    answer = await asked(service, "some sql, Rumpelstiltskin")
    other, _ = await service.keys.create("other")
    await service.http.post("/v1/feedback", json={"id": answer["id"], "thumbs": "up"})
    assert (await get(service, f"/v1/routes/{answer['id']}"))["prompt"] == "some sql, Rumpelstiltskin"
    rows = [(await get(service, path))["data"] for path in ("/v1/routes", "/v1/feedback")]
    assert "Rumpelstiltskin" not in str(rows)
    [own] = (await get(service, "/v1/feedback?prompts=true"))["data"]
    [strange] = (await get(service, "/v1/feedback?prompts=true", other))["data"]
    assert (own["prompt"], strange["prompt"]) == ("some sql, Rumpelstiltskin", None)
    await service.stop()


async def test_by_default_no_word_of_it_is_stored(service: Service) -> None:
    answer = await asked(service, "some sql, Rumpelstiltskin")
    await service.http.post("/v1/feedback", json={"id": answer["id"], "thumbs": "up"})
    [record] = await service.store.decisions()
    assert "Rumpelstiltskin" not in str(record) + str(await service.store.feedback())
    assert (await get(service, "/v1/feedback?prompts=true"))["data"][0]["prompt"] is None
