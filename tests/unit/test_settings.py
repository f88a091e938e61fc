"""Settings: flags over environment over file over defaults."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelyard.settings import Settings, SettingsError, load_settings
from modelyard.settings_shown import MASK, explain_settings, ignored_variables
from modelyard.surroundings import read_surroundings


def test_the_defaults() -> None:
    assert msgspec.structs.asdict(load_settings({}, environment={})) == {
        "host": "127.0.0.1",
        "port": 8000,
        "console": True,
        "prometheus_url": "",
        "traces": "off",
        "traces_url": "",
        "traces_rate": 0.01,
        "traces_slow_s": 0,
        "payload_log_file": "",
        "log_format": "auto",
        "log_level": "info",
        "access_log": False,
        "grpc_port": None,
        "mcp": False,
        "auth": "",
        "tls_certificate": "",
        "tls_key": "",
        "tls_client_ca": "",
        "keys_file": "",
        "tokens_file": "",
        "trusted_proxies": "",
        "proxy_owner_header": "",
        "proxy_scopes_header": "",
        "proxy_rules": "",
        "database_url": "",
        "state_folder": "",
        "gateways": 1,
        "artefacts_url": "",
        "job_expires_s": 604_800,
        "job_max_attempts": 5,
        "job_cancel_grace_s": 10,
        "job_keep_s": 604_800,
        "job_keep_mb": 10_000,
        "job_files_url": "",
        "job_inline_bytes": 1024 * 1024,
        "max_job_mb": 100,
        "job_link_s": 300,
        "callback_secrets": "",
        "callback_networks": "",
        "registry_url": "",
        "max_artefact_mb": 20_000,
        "bulk_input_urls": "",
        "bulk_output_urls": "",
        "max_bulk_mb": 20_000,
        "model_cache_mb": 20_000,
        "model_cache_folder": "",
        "trusted_keys": "",
        "trusted_identities": "",
        "open_pages": "",
        "max_body_bytes": 8_388_608,
        "max_bodies_bytes": 268_435_456,
        "body_timeout_s": 30,
        "header_timeout_s": 10,
        "max_timeout_s": 300,
        "cache_bytes": 16_777_216,
        "drain_s": 30,
        "cors_origins": "",
        "amqp_url": "amqp://guest:guest@127.0.0.1:5672/",
        "amqp_username": "",
        "amqp_password": "",
        "redis_url": "",
        "redis_username": "",
        "redis_password": "",
        "queue_type": "classic",
        "unload_after_s": 300,
        "forget_model_s": 3600,
        "expected_model": "",
        "load_attempts": 0,
        "sticky_header": "",
        "default_versions": "",
        "gateway_url": "",
        "call_key": "",
        "show_model_errors": False,
        "gpus": "auto",
        "make_environments": True,
        "environments_folder": "",
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
        (b"ports = 1\n", "no setting is called ports; did you mean port?"),
        (b"port = \n", "Invalid value (at line 1, column 8)"),
        (b"[port]\n", "Expected `int`, got `object`"),
        (b"port = " + b"9" * 5000, "Exceeds the limit (4300 digits)"),
        (b"port = " + b"[" * 5000, ""),
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


def test_secrets_are_files_called_like_settings(tmp_path: Path) -> None:
    secrets, file = tmp_path / "secrets", tmp_path / "modelyard.toml"
    secrets.mkdir()
    (secrets / "amqp_password").write_text("from the secret\n")
    (secrets / "redis_url").write_text("redis://secret")
    (secrets / "..data").write_text("not a setting")
    file.write_text('amqp_password = "from the file"\nredis_url = "redis://file"\n')
    environment = {
        "MODELYARD_SECRETS": str(secrets),
        "MODELYARD_CONFIG": str(file),
        "MODELYARD_REDIS_URL": "redis://environment",
    }
    settings = load_settings({}, environment=environment)
    assert settings == Settings(amqp_password="from the secret", redis_url="redis://environment")


def test_a_secret_that_cannot_be_used_is_named_and_not_told(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("hunter2")
    with pytest.raises(SettingsError, match="port: Expected `int`") as caught:
        load_settings({}, environment={"MODELYARD_SECRETS": str(tmp_path)})
    assert str(tmp_path / "port") in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match="no-such-folder"):
        load_settings({}, environment={"MODELYARD_SECRETS": str(tmp_path / "no-such-folder")})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("amqp://one:5672/", "amqp://me:p%40ss%2Fw@one:5672/"),
        ("amqp://one, amqps://two/v", "amqp://me:p%40ss%2Fw@one,amqps://me:p%40ss%2Fw@two/v"),
        ("amqp://you:secret@one/", "amqp://you:secret@one/"),
    ],
)
def test_the_user_is_put_into_urls_that_name_none(given: str, expected: str) -> None:
    settings = Settings(amqp_url=given, amqp_username="me", amqp_password="p@ss/w")
    assert settings.broker_url == expected
    assert Settings(amqp_url=given).broker_url == given
    assert Settings(redis_password="x").cache_url == ""


def test_each_setting_is_explained_by_where_it_came_from(tmp_path: Path) -> None:
    file, secrets = tmp_path / "modelyard.toml", tmp_path / "secrets"
    file.write_text("drain_s = 1\n")
    secrets.mkdir()
    (secrets / "redis_url").write_text("redis://cache/")
    explained = explain_settings(
        {"port": 1, "config": str(file)},
        environment={"MODELYARD_HOST": "::", "MODELYARD_SECRETS": str(secrets)},
    )
    assert [one.name for one in explained] == list(Settings.__struct_fields__)
    found = {one.name: (one.value, one.origin) for one in explained}
    assert found["port"] == (1, "--port")
    assert found["host"] == ("::", "MODELYARD_HOST")
    assert found["drain_s"] == (1, str(file))
    assert found["redis_url"] == ("redis://cache/", str(secrets / "redis_url"))
    assert found["log_level"] == ("info", "default")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("amqp_password", "hunter2", MASK),
        ("amqp_password", "", ""),
        ("amqp_url", "amqp://me:hunter2@one:5672/", f"amqp://me:{MASK}@one:5672/"),
        ("amqp_url", "amqp://me:hun/ter2@one", f"amqp://me:{MASK}@one"),
        (
            "amqp_url",
            "amqp://one:5672/,amqps://me:hunter2@two:5671/v",
            f"amqp://one:5672/,amqps://me:{MASK}@two:5671/v",
        ),
        ("redis_url", "redis://:hunter2@one/0", f"redis://:{MASK}@one/0"),
        ("redis_url", "redis://one/0?password=hunter2&db=1", f"redis://one/0?password={MASK}&db=1"),
        ("redis_url", "redis://one:6379/0", "redis://one:6379/0"),
    ],
)
def test_secrets_are_masked_where_settings_are_shown(name: str, value: str, shown: str) -> None:
    explained = explain_settings({name: value}, environment={})
    assert next(one.value for one in explained if one.name == name) == shown


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one() -> None:
    environment = {
        "MODELYARD_PROT": "1",
        "MODELYARD_COLOUR_OF_THE_YARD": "green",
        "MODELYARD_PORT": "1",
        "MODELYARD_CONFIG": "x",
        "MODELYARD_SECRETS": "x",
        "OTHER": "x",
    }
    assert ignored_variables(environment) == [
        "MODELYARD_COLOUR_OF_THE_YARD is not a setting and is ignored; "
        "`modelyard config` lists all settings",
        "MODELYARD_PROT is not a setting and is ignored; did you mean MODELYARD_PORT?",
    ]


@pytest.mark.parametrize(
    "origins", ["", "*", "https://a.example", "http://a:1, https://b.example/"]
)
def test_origins_are_accepted(origins: str) -> None:
    assert load_settings({"cors_origins": origins}, environment={}).cors_origins == origins


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/page", "https://a b", ","])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(SettingsError, match="--cors-origins"):
        load_settings({"cors_origins": origins}, environment={})


def test_models_are_given_no_variable_of_modelyard(tmp_path: Path) -> None:
    environment = {"PATH": "/bin", "MODELYARD_SECRETS": str(tmp_path), "MODELYARD_PORT": "1"}
    found = read_surroundings(environment)
    assert found.variables == {"PATH": "/bin"}
    assert found.secrets == tmp_path
    assert {"amqp_password", "redis_password"} <= found.reserved
    assert read_surroundings({}).secrets is None


def test_the_folder_for_caches_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr("sys.platform", "linux")
    assert read_surroundings({"XDG_CACHE_HOME": "/caches"}).caches == Path("/caches")
    assert read_surroundings({"XDG_CACHE_HOME": "no/absolute/path"}).caches == Path(
        "/home/ada/.cache"
    )


@pytest.mark.parametrize(
    ("gpus", "devices"), [("auto", None), ("", []), ("0", ["0"]), (" 1, GPU-a,", ["1", "GPU-a"])]
)
def test_gpus_are_names_with_commas(gpus: str, devices: list[str] | None) -> None:
    assert load_settings({"gpus": gpus}, environment={}).devices == devices
