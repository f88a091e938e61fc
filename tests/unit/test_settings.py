"""Settings: flags over environment over file over defaults."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelyard.settings import Settings, SettingsError, load_settings


def test_the_defaults() -> None:
    assert msgspec.structs.asdict(load_settings({}, environment={})) == {
        "host": "127.0.0.1",
        "port": 8000,
        "log_format": "json",
        "log_level": "info",
        "access_log": False,
        "max_body_bytes": 8_388_608,
        "body_timeout_s": 30,
        "header_timeout_s": 10,
        "max_timeout_s": 300,
        "cache_bytes": 16_777_216,
        "drain_s": 30,
        "amqp_url": "amqp://guest:guest@127.0.0.1:5672/",
        "redis_url": "",
        "queue_type": "classic",
    }


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_every_setting_is_documented(field: str) -> None:
    assert f"\n        {field}: " in (Settings.__doc__ or "")


def test_flags_go_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "modelyard.toml"
    path.write_text('port = 1\nhost = "file"\ndrain_s = 1.5\n')
    settings = load_settings(
        {"port": 3, "host": None, "config": str(path)},
        environment={"MODELYARD_PORT": "2", "MODELYARD_HOST": "environment"},
    )
    assert settings == Settings(port=3, host="environment", drain_s=1.5)


def test_the_file_is_named_by_the_flag_or_by_the_environment(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text("port = 1\n")
    other.write_text("port = 2\n")
    environment = {"MODELYARD_CONFIG": str(other)}
    assert load_settings({}, environment=environment).port == 2
    assert load_settings({"config": str(one)}, environment=environment).port == 1


def test_the_environment_is_text() -> None:
    environment = {
        "MODELYARD_PORT": "0",
        "MODELYARD_ACCESS_LOG": "true",
        "MODELYARD_MAX_TIMEOUT_S": "2.5",
        "MODELYARD_LOG_FORMAT": "text",
        "HOST": "ignored",
    }
    expected = Settings(port=0, access_log=True, max_timeout_s=2.5, log_format="text")
    assert load_settings({}, environment=environment) == expected


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ({}, {"MODELYARD_PORT": "many"}, "MODELYARD_PORT: Expected `int`"),
        ({}, {"MODELYARD_PORT": ""}, "MODELYARD_PORT: Expected `int`"),
        ({"port": 65536}, {}, "--port: Expected `int` <= 65535"),
        ({"port": -1}, {"MODELYARD_PORT": "1"}, "--port: Expected `int` >= 0"),
        ({"log_level": "loud"}, {}, "--log-level: Invalid enum value 'loud'"),
        ({"drain_s": 0}, {}, "--drain-s: Expected `float` > 0"),
        ({}, {"MODELYARD_DRAIN_S": "nan"}, "MODELYARD_DRAIN_S: Expected `float` > 0"),
        ({}, {"MODELYARD_DRAIN_S": "1e999"}, "MODELYARD_DRAIN_S: Number out of range"),
        ({}, {"MODELYARD_MAX_BODY_BYTES": "12"}, "MODELYARD_MAX_BODY_BYTES: Expected `int` >="),
    ],
)
def test_a_wrong_value_is_told_with_where_it_came_from(
    flags: dict[str, object], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, environment=environment)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ports = 1\n", "no setting is called ports; see `modelyard --help`"),
        (b"port = \n", "Invalid value (at line 1, column 8)"),
        (b"[port]\n", "Expected `int`, got `object`"),
        (b'host = "\xff"\n', "'utf-8' codec can't decode"),
    ],
)
def test_a_wrong_file_is_told_by_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "modelyard.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({"config": str(path)}, environment={})
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: .*No such file"):
        load_settings({}, environment={"MODELYARD_CONFIG": str(tmp_path / "nowhere.toml")})
