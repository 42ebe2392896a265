"""Flags over environment over coe.yaml over defaults; secrets stay out of sight."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import Config
from orchestrator.settings import SETTINGS, ConfigError, Server, Settings, is_loopback, mask_url, misspelt, resolve

HOME = {"HOME": "/home/ada"}
KEY = "0123456789abcdef"


def settings(flags: dict[str, object] | None = None, config: Config | None = None, **env: str) -> Settings:
    return resolve(flags or {}, HOME | env, config, folder=Path("/srv"))


def told(flags: dict[str, object] | None = None, config: Config | None = None, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings(flags, config, **env)
    return list(caught.value.problems)


def test_defaults() -> None:
    assert settings() == Settings(
        home=Path("/home/ada/.coe"),
        host="127.0.0.1",
        port=8000,
        origins=dict.fromkeys(
            ("home", "host", "port", "api_key", "redis_url", "ray_address", "config"),
            "default",
        ),
    )


FILE = Config(
    server=Server(home=Path("/file"), host="10.0.0.1", port=1, redis_url="redis://file", ray_address="file:1")
)
ENV = {
    "COE_HOME": "/env",
    "COE_HOST": "10.0.0.2",
    "COE_PORT": "2",
    "COE_API_KEY": KEY + "env",
    "COE_REDIS_URL": "redis://env",
    "RAY_ADDRESS": "env:1",
    "COE_CONFIG": "/env.yaml",
}
FLAGS = {
    "home": Path("/flag"),
    "host": "10.0.0.3",
    "port": 3,
    "api_key": KEY + "flag",
    "redis_url": "redis://flag",
    "ray_address": "flag:1",
    "config": "/flag.yaml",
}
IN_FILE = ("home", "host", "port", "redis_url", "ray_address")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_setting_knows_its_order_and_its_origin(setting: Any) -> None:
    name, env = setting.name, {setting.env: ENV[setting.env]}
    from_flag = settings({name: FLAGS[name]}, FILE, **env)
    assert from_flag.origins[name] == "flag"
    assert str(value(from_flag, name)) == str(FLAGS[name])
    from_env = settings({name: None}, FILE, **env)
    assert (str(value(from_env, name)), from_env.origins[name]) == (env[setting.env], setting.env)
    from_file = settings({}, FILE, **{setting.env: ""})  # empty is not set
    if name in IN_FILE:
        in_file = {
            "home": "/file",
            "host": "10.0.0.1",
            "port": "1",
            "redis_url": "redis://file",
            "ray_address": "file:1",
        }
        assert (str(value(from_file, name)), from_file.origins[name]) == (in_file[name], "coe.yaml")
    else:
        assert (value(from_file, name), from_file.origins[name]) == (None, "default")


def value(found: Settings, name: str) -> object:
    given = getattr(found, name)
    return given.get_secret_value() if name == "api_key" and given else given


def test_the_origin_names_the_file_that_was_read() -> None:
    assert settings({"config": "conf/gpu.yaml"}, FILE).origins["port"] == "gpu.yaml"
    found = resolve({}, HOME, FILE, folder=Path("/srv"), found=Path("/srv/coe.yaml"))
    assert (found.config, found.origins["config"], found.origins["port"]) == (
        Path("/srv/coe.yaml"),
        "default",
        "coe.yaml",
    )


def test_paths_come_out_absolute() -> None:
    assert settings(COE_HOME="data").home == Path("/srv/data")
    assert settings(COE_HOME="~").home == Path("/home/ada")
    assert settings({"home": "~/x"}).home == Path("/home/ada/x")
    assert settings(COE_CONFIG="a.yaml").config == Path("/srv/a.yaml")


@pytest.mark.parametrize("port", ["80x", "0", "65536", "-1", "80.5", "1e3", "٨٠"])
def test_wrong_ports(port: str) -> None:
    assert told(COE_PORT=port) == [f"COE_PORT={port!r}: not a port; allowed: 1..65535"]


def test_an_error_names_the_source() -> None:
    assert told({"port": "80x"}, COE_PORT="9000") == ["--port='80x': not a port; allowed: 1..65535"]
    assert told({"port": True}) == ["--port='True': not a port; allowed: 1..65535"]
    assert told({"port": ""}) == ["--port='': not a port; allowed: 1..65535"]


def test_a_kubernetes_service_named_coe_is_recognised() -> None:
    [line] = told(COE_PORT="tcp://10.0.0.1:8000")
    assert "Service named 'coe'; set enableServiceLinks: false" in line


def test_all_problems_are_told_at_once_in_the_order_of_the_settings() -> None:
    lines = told({"host": "a b", "ray_address": "nowhere"}, COE_PORT="x", COE_API_KEY="short", COE_HOME="~bob")
    assert [line.partition(":")[0].partition("=")[0] for line in lines] == [
        "COE_HOME",
        "--host",
        "COE_PORT",
        "COE_API_KEY",
        "--ray-address",
    ]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", "::1", "::", "fe80::1%eth0", "localhost", "coe_server.example.com"]
)
def test_hosts(host: str) -> None:
    assert settings(COE_HOST=host).host == host


@pytest.mark.parametrize(
    "host", ["http://x", "x:80", "[::1]", "a b", "127.1", "127.0.0.256", "*", "-x", "é.com", "a..b", "x" * 64]
)
def test_wrong_hosts(host: str) -> None:
    [line] = told(COE_HOST=host)
    assert line.startswith(f"COE_HOST={host!r}: not a")


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u:p@h:6380/1", "redis://:p%2Fw@[::1]:6379/0?protocol=3", "unix:///run/r.sock"]
)
def test_redis_urls(url: str) -> None:
    assert settings(COE_REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379/hunter2",
        "http://hunter2@h",
        "redis://",
        "redis://:hunter2",
        "redis://h:hunter2",
        "redis://u:hunter2@h:99999",
        "redis://u:hunter2@h:0",
        "redis://u:hunter2/x@h",
        "redis://u:1?hunter2@h",
        "redis://u:1#hunter2@h",
        "redis://u:hunter2@h/zero",
        "redis://u:hunter2 @h",
        "redis://u:hunter2@h\n",
        "redis://[hunter2",
        "unix://",
        "unix://run/hunter2",
        "REDIS://u:hunter2@h",
    ],
)
def test_wrong_redis_urls_are_refused_and_not_repeated(url: str) -> None:
    for lines in (told(COE_REDIS_URL=url), told({"redis_url": url})):
        [line] = lines
        assert "the URL (not shown)" in line
        assert "allowed: redis://HOST:6379/0" in line
        assert "hunter2" not in line


@pytest.mark.parametrize("address", ["auto", "h:6379", "10.0.0.1:6379", "[::1]:6379", "ray://h:10001"])
def test_ray_addresses(address: str) -> None:
    assert settings(RAY_ADDRESS=address).ray_address == address


def test_a_local_ray_is_no_address() -> None:
    found = settings(RAY_ADDRESS="local", config=FILE)
    assert (found.ray_address, found.origins["ray_address"]) == (None, "RAY_ADDRESS")


@pytest.mark.parametrize("address", ["h", "h:0", "h:99999", "ray://h", "http://h:1", "h:6379/x"])
def test_wrong_ray_addresses(address: str) -> None:
    allowed = "allowed: HOST:6379, ray://HOST:10001, 'auto' or 'local'"
    assert told(RAY_ADDRESS=address) == [f"RAY_ADDRESS={address!r}: not the address of a Ray cluster; {allowed}"]


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("hunter2", "has 7 characters"),
        ("hunter2" * 100, "has 700 characters"),
        ("hunter2-hunter2-x\n", "starts or ends with white space"),
        ("hunter2 hunter2 hunter2", "holds a space"),
        ("hunter2-hunter2-é", "holds a space or a character beyond ASCII"),
    ],
)
def test_wrong_keys_are_refused_and_not_repeated(key: str, fault: str) -> None:
    [line] = told(COE_API_KEY=key)
    assert line.startswith(f"COE_API_KEY: the key (not shown) {fault}")
    assert line.endswith("allowed: 16 to 512 printable ASCII characters without spaces")
    assert "hunter2" not in line


def test_secrets_show_in_no_output() -> None:
    found = settings(COE_API_KEY=KEY, COE_REDIS_URL="redis://ada:hunter2@h:6379/0?password=hunter3")
    assert found.redis_url_safe == "redis://ada:***@h:6379/0?password=***"
    for text in (str(found), repr(found), repr(found.rows()), repr([found]), f"{found}"):
        assert KEY not in text
        assert "hunter" not in text
    assert found.api_key is not None
    assert found.api_key.get_secret_value() == KEY
    in_file = Config(server=Server(redis_url="redis://ada:hunter2@h"))
    assert "hunter" not in repr(in_file) + in_file.model_dump_json()
    with pytest.raises(ValueError, match="redis_url") as caught:
        Server(redis_url="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://ada:pw@h", "redis://ada:***@h"),
        ("redis://:pw@h", "redis://:***@h"),
        ("redis://token@h", "redis://***@h"),
        ("redis://a:p@w@h", "redis://a:***@h"),
        ("redis://h?password=pw&db=1", "redis://h?password=***&db=***"),
        ("redis://h#pw", "redis://h"),
        ("ada:pw@h", "***"),
    ],
)
def test_masks(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_what_the_service_prints() -> None:
    rows = settings({"port": 9000}, COE_HOST="::", COE_API_KEY=KEY).rows()
    assert rows == [
        ("home", "/home/ada/.coe", "default"),
        ("host", "::", "COE_HOST"),
        ("port", "9000", "flag"),
        ("api_key", "(given)", "COE_API_KEY"),
        ("redis_url", "(embedded)", "default"),
        ("ray_address", "(local)", "default"),
        ("config", "(none)", "default"),
    ]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("example.com", "http://example.com:8000"),
    ],
)
def test_the_url_for_a_client_on_this_machine(host: str, url: str) -> None:
    assert settings(COE_HOST=host).url == url


def test_a_home_without_home() -> None:
    with pytest.raises(ConfigError, match=r"the default of COE_HOME='~/\.coe': '~' needs HOME, which is not set"):
        resolve({}, {}, None)
    assert resolve({}, {"COE_HOME": "/data"}, None).home == Path("/data")


def test_a_flag_that_is_none_of_ours_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="prot"):
        resolve({"prot": 1}, HOME, None)


def test_settings_do_not_change_and_cross_process_boundaries() -> None:
    found = settings(COE_API_KEY=KEY)
    with pytest.raises(AttributeError):
        found.port = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST.", "a.localhost", "::ffff:127.0.0.1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil.com", "::ffff:10.0.0.1", "", "2130706433"]
)
def test_beyond_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_misspelt_variable_is_noticed() -> None:
    env = {
        "COE_PROT": "1",
        "COE_APIKEY": "x",
        "COE_HOME": "x",
        "COE_SERVICE_HOST": "x",
        "COE_PORT_8000_TCP": "x",
        "PORT": "1",
    }
    assert misspelt(env) == (
        "COE_APIKEY is not a setting; did you mean COE_API_KEY?",
        "COE_PROT is not a setting; did you mean COE_PORT?",
    )
