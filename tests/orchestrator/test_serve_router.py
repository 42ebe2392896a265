"""The router of a service at its start: a folder that `coe router fit` made, and what is told if it does not go."""

from pathlib import Path

import pytest

from orchestrator.config.model import RouterConfig
from orchestrator.listening import CannotStart
from orchestrator.preparing import Encoders, load_router, strangers
from routers.encoders import choice
from routers.encoders.hashed import HashEncoder
from routers.fitted import FittedRouter, fit_labelled
from tests.routers.fitted_parts import EXPERTS, labelled, quick_models

__all__ = ["quick_models"]
pytestmark = pytest.mark.usefixtures("quick_models")


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that takes no time; `static` gives vectors of another one."""
    sizes = {"minilm": 256, "static": 64}
    monkeypatch.setattr(choice, "open_encoder", lambda kind, home: HashEncoder(sizes[kind]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fit_labelled(labelled(), HashEncoder()).save(tmp_path / "mine")
    return tmp_path / "mine"


def refused(config: RouterConfig) -> str:
    with pytest.raises(CannotStart) as caught:
        load_router(config, Path("home"), Encoders(Path("home")))
    return str(caught.value)


def test_a_folder_of_coe_router_fit_is_loaded(folder: Path) -> None:
    config = RouterConfig(path=folder, aggregator="judge")
    router = load_router(config, Path("home"), Encoders(Path("home")))
    assert isinstance(router, FittedRouter)
    assert router.route("boil tea").experts == ("cook",)
    assert router.route("boil tea", k=2).aggregator == "judge"
    assert strangers(config, router, EXPERTS) is None


def test_a_folder_that_does_not_go_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    assert refused(RouterConfig(path=folder, encoder="static")) == (
        f"the router in {folder} was fitted with encoder 'hash-256' (256 dimensions), but 'hash-64' (64) is in use: "
        "use the same encoder (router.encoder in coe.yaml) or fit the router again"
    )
    assert refused(RouterConfig(path=tmp_path / "none")) == (
        f"there is no fitted router: {tmp_path / 'none' / 'router.json'} is missing; fit it first"
    )
    file = tmp_path / "labels.csv"
    file.write_text("")
    assert refused(RouterConfig(path=file)) == (
        f"{file / 'router.json'} cannot be read: Not a directory; name the folder of a fitted router"
    )
    (folder / "skill" / "means.json").write_bytes(b"")
    assert refused(RouterConfig(path=folder)) == (
        f"{folder / 'skill' / 'means.json'} is corrupt (it is not the file that router.json was written with): fit the "
        "router again"
    )


def test_experts_that_only_one_side_has_are_told(folder: Path) -> None:
    config = RouterConfig(path=folder)
    router = load_router(config, Path("home"), Encoders(Path("home")))
    assert strangers(config, router, ("cook", "idle", "bard")) == (
        "the router was not fitted on bard: asked after all others, and knows poet, of which there is no expert here"
    )
    assert strangers(config, router, ("cook",)) == "the router knows idle, poet, of which there is no expert here"
    with pytest.raises(CannotStart) as caught:
        strangers(config, router, ("bard",))
    assert str(caught.value) == (
        f"the router in {folder} knows cook, idle, poet, and the service has bard: give the experts the names of the "
        "labelled file, or fit a router on these"
    )


def test_a_router_that_nobody_named_may_know_none_of_the_experts(folder: Path) -> None:
    router = load_router(RouterConfig(path=folder), Path("home"), Encoders(Path("home")))
    assert strangers(RouterConfig(), router, ("bard",)) == (
        "the router was not fitted on bard: asked after all others, and knows cook, idle, poet, of which there is no "
        "expert here"
    )
    fixed = RouterConfig(kind="fixed", fallback="bard")
    assert strangers(fixed, load_router(fixed, Path("home"), Encoders(Path("home"))), ("bard", "cook")) is None
