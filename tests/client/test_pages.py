"""The pages about the client: their programs run, and they leave nothing out."""

import re
from pathlib import Path

import pytest

from coe_client import Batches, Coe, Files
from coe_client.testing import KEY, MockService, answered
from tests.client.programs import ROOT, answering

PAGE, README = ROOT / "docs" / "client.md", ROOT / "client" / "README.md"
LINE = b'{"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "hi"}]}}'


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_the_programs_run(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    service = MockService(lambda request: answered(request, "an answer"))
    Path("questions.jsonl").write_bytes(LINE)

    programs = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert programs
    with answering(service.answered) as url:
        monkeypatch.setenv("COE_URL", url)
        monkeypatch.setenv("COE_API_KEY", KEY)
        for program in programs:
            exec(compile(program, page.name, "exec"), {})
    assert "an answer" in capsys.readouterr().out


def test_every_method_is_on_the_page() -> None:
    page = PAGE.read_text()
    methods = {name for name in vars(Coe) if not name.startswith("_")} - {"close"}
    for space, kind in (("files", Files), ("batches", Batches)):
        methods |= {f"{space}.{name}" for name in vars(kind) if not name.startswith("_")}
    assert methods == {name for name in methods if f"`{name}(" in page}


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    with Coe("http://a.test", KEY) as coe:
        settings = coe._core.settings
    page = " ".join(PAGE.read_text().split())
    assert f"`timeout` ({settings.timeout:g} s)" in page
    assert f"`max_retries` ({settings.max_retries})" in page
    backoff = settings.backoff
    assert f"after {backoff.first:g} s, doubled each time up to {backoff.most:g} s" in page
    assert backoff.jitter == 0.5  # "up to half of it taken off"
