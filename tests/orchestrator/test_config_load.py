"""Where the configuration comes from: a file that can be read, flags, environment and folder."""

import errno
import os
from pathlib import Path

import pytest

from experts.starter import starter_experts
from orchestrator.config.load import ConfigError, default_config, load, load_config
from tests.orchestrator.config_parts import ENV


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    for path, reason in (
        (tmp_path / "no.yaml", "there is no such file"),
        (tmp_path, "this is a folder; name the file in it"),
        (loop, f"cannot be read: {os.strerror(errno.ELOOP)}"),
        (Path("a\0b"), "cannot be read: embedded null byte"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert caught.value.problems == (f"{path}: {reason}",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_someone_else(file: Path) -> None:
    file.write_text("log_level: info\n")
    file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config(file)


def test_load_finds_the_file_in_the_folder_or_does_without(tmp_path: Path) -> None:
    settings, config = load({}, ENV, tmp_path)
    assert (settings.config, config) == (None, default_config(Path("/home/ada/.coe")))
    (tmp_path / "coe.yaml").write_text("server: {port: 9000, home: data}\n")
    settings, config = load({}, ENV, tmp_path)
    assert (settings.config, settings.port, settings.origins["port"]) == (tmp_path / "coe.yaml", 9000, "coe.yaml")
    assert settings.home == tmp_path / "data"
    assert config.experts == starter_experts(tmp_path / "data")


def test_load_takes_the_home_of_flag_or_environment_for_the_starter_pool(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text("server: {home: data}\n")
    settings, config = load({}, {"COE_HOME": "/env"}, tmp_path)
    assert (settings.home, config.experts) == (Path("/env"), starter_experts(Path("/env")))
    settings, config = load({"home": "flag"}, {"COE_HOME": "/env"}, tmp_path)
    assert (settings.home, config.experts) == (tmp_path / "flag", starter_experts(tmp_path / "flag"))


def test_load_takes_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text("- broken\n")
    (tmp_path / "gpu.yaml").write_text("server: {port: 9000}\n")
    settings, _ = load({"config": "gpu.yaml"}, ENV, tmp_path)
    assert (settings.config, settings.origins["port"]) == (tmp_path / "gpu.yaml", "gpu.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load({}, ENV | {"COE_CONFIG": "missing.yaml"}, tmp_path)
    with pytest.raises(ConfigError, match="must be a mapping"):
        load({}, ENV, tmp_path)


def test_load_does_not_pass_over_a_dead_link(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load({}, ENV, tmp_path)
