"""TLS for HTTP and gRPC, certificates of clients, and their renewal."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.identities import write_others
from tests.support.server import PATIENCE_S, Server, complaint_of, wait_until

BODY = {"model_name": "people", "input_data": [{"name": "Ada"}]}


class Certificates:
    """Those of a server and of a client, by one authority, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.authority = trustme.CA()
        self.ca, self.certificate, self.key = folder / "ca", folder / "cert", folder / "key"
        self.client = folder / "client"
        self.authority.cert_pem.write_to_path(self.ca)
        self.authority.issue_cert(
            "client@example.com"
        ).private_key_and_cert_chain_pem.write_to_path(self.client)
        self.renew()

    def renew(self) -> None:
        """Write another certificate of the server."""
        issued = self.authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.certificate)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "MODELYARD_TLS_CERTIFICATE": str(self.certificate),
            "MODELYARD_TLS_KEY": str(self.key),
            "MODELYARD_GRPC_PORT": "0",
        }

    def context(self, *, has_certificate: bool = False) -> ssl.SSLContext:
        """Return that of a client."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if has_certificate:
            context.load_cert_chain(self.client)
        return context

    def channel(self, address: str, *, has_certificate: bool = False) -> grpc.Channel:
        """Return a channel of a client."""
        pair = (self.client.read_bytes(),) * 2 if has_certificate else (None, None)
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), *pair)
        return grpc.secure_channel(address, credentials)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_others(tmp_path / "models")


@pytest.fixture
def server(certificates: Certificates, models: Path) -> Iterator[Server]:
    with Server(models, settings=certificates.settings) as server:
        wait_until_ready(server, certificates)
        yield server


def wait_until_ready(server: Server, certificates: Certificates, **more: bool) -> None:
    with httpx.Client(base_url=server.url, verify=certificates.context(**more)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, what="the models")


def ask_over_grpc(channel: grpc.Channel) -> Any:
    request = service_pb2.ModelInferRequest(model_name="people")
    request.inputs.add(name="name", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\3\0\0\0Ada")
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return stub.ModelInfer(request, timeout=PATIENCE_S)


def test_http_and_grpc_speak_tls(server: Server, certificates: Certificates) -> None:
    assert server.url.startswith("https://")
    with httpx.Client(base_url=server.url, verify=certificates.context()) as client:
        for _ in range(3):
            answer = client.post("/predict", json=BODY)
            assert answer.json()["prediction"][0]["text"] == "Hello Ada"
        assert client.get("/models/people").status_code == 200
        text = "x" * 3_000_000
        large = client.post("/predict", json={**BODY, "input_data": [{"name": text}]})
        assert large.json()["prediction"][0]["letters"] == len(text)
    with certificates.channel(server.grpc_address) as channel:
        assert ask_over_grpc(channel).model_name == "people"


def test_plain_http_and_unknown_authorities_get_nowhere(
    server: Server, certificates: Certificates
) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(server.url.replace("https", "http") + "/healthz")
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(server.url + "/healthz")
    with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError):
        ask_over_grpc(channel)
    assert httpx.get(server.url + "/healthz", verify=certificates.context()).status_code == 200


def number_of(address: str, context: ssl.SSLContext) -> Any:
    """Return the serial number of the certificate that a server shows."""
    host, port = address.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        found: Any = secured.getpeercert()
        return found["serialNumber"]


def test_a_renewed_certificate_is_shown_while_connections_go_on(
    server: Server, certificates: Certificates
) -> None:
    addresses = (server.url, server.grpc_address)
    before = [number_of(address, certificates.context()) for address in addresses]
    with httpx.Client(base_url=server.url, verify=certificates.context()) as client:
        assert client.get("/healthz").status_code == 200
        certificates.key.write_text("half a renewal")
        wait_until(lambda: "certificate_not_read" in server.output, what="a word about it")
        assert number_of(server.url, certificates.context()) == before[0]
        certificates.renew()
        for address, number in zip(addresses, before, strict=True):
            wait_until(
                lambda: number_of(address, certificates.context()) != number,  # noqa: B023
                what="the new certificate",
            )
        assert client.get("/healthz").status_code == 200


def test_clients_may_have_to_show_a_certificate(certificates: Certificates, models: Path) -> None:
    settings = {**certificates.settings, "MODELYARD_TLS_CLIENT_CA": str(certificates.ca)}
    with Server(models, settings=settings) as server:
        wait_until_ready(server, certificates, has_certificate=True)
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url + "/healthz", verify=certificates.context())
        with (
            certificates.channel(server.grpc_address) as channel,
            pytest.raises(grpc.RpcError),
        ):
            ask_over_grpc(channel)
        with certificates.channel(server.grpc_address, has_certificate=True) as channel:
            assert ask_over_grpc(channel).model_name == "people"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"MODELYARD_TLS_KEY": ""}, "tls_certificate needs tls_key"),
        ({"MODELYARD_TLS_CERTIFICATE": ""}, "need tls_certificate"),
        ({"MODELYARD_TLS_KEY": "/nothing"}, "No such file"),
    ],
)
def test_files_that_cannot_be_used_are_said_in_one_line(
    certificates: Certificates, models: Path, changes: dict[str, str], problem: str
) -> None:
    settings = {**certificates.settings, **changes}
    assert problem in complaint_of("serve", models, settings=settings)


def lets_in(server: Server, context: ssl.SSLContext) -> bool:
    """Whether a client gets an answer over HTTP."""
    try:
        return httpx.get(server.url + "/healthz", verify=context).is_success
    except httpx.HTTPError:
        return False


def let_in(server: Server, certificates: Certificates, client: Path) -> tuple[bool, bool]:
    """Whether a client gets an answer: over HTTP, and over gRPC."""
    context = certificates.context()
    context.load_cert_chain(client)
    pair = (client.read_bytes(),) * 2
    credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes(), *pair)
    try:
        with grpc.secure_channel(server.grpc_address, credentials) as channel:
            is_in = ask_over_grpc(channel).model_name == "people"
    except grpc.RpcError:
        is_in = False
    return lets_in(server, context), is_in


def test_a_new_authority_of_clients_is_taken_without_a_restart(
    certificates: Certificates, models: Path, tmp_path: Path
) -> None:
    others, authorities = Certificates(tmp_path / "others"), tmp_path / "authorities"
    authorities.write_bytes(certificates.ca.read_bytes())
    settings = {**certificates.settings, "MODELYARD_TLS_CLIENT_CA": str(authorities)}

    with Server(models, settings=settings) as server:
        wait_until_ready(server, certificates, has_certificate=True)
        assert not any(let_in(server, certificates, others.client))
        authorities.write_text("no authority at all")
        wait_until(lambda: "certificate_not_read" in server.output, what="a word about it")
        assert all(let_in(server, certificates, certificates.client))
        authorities.write_bytes(others.ca.read_bytes())
        wait_until(
            lambda: all(let_in(server, certificates, others.client)), what="the new authority"
        )
        assert not any(let_in(server, certificates, certificates.client))


def test_a_session_of_an_authority_of_the_past_is_not_resumed(
    certificates: Certificates, models: Path, tmp_path: Path
) -> None:
    others, authorities = Certificates(tmp_path / "others"), tmp_path / "authorities"
    authorities.write_bytes(certificates.ca.read_bytes())
    settings = {**certificates.settings, "MODELYARD_TLS_CLIENT_CA": str(authorities)}
    with Server(models, settings=settings) as server:
        wait_until_ready(server, certificates, has_certificate=True)
        host, port = server.url.removeprefix("https://").split(":")
        context = certificates.context(has_certificate=True)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def session(before: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection((host, int(port))) as plain,
                context.wrap_socket(plain, server_hostname=host, session=before) as secured,
            ):
                return secured.session, secured.session_reused

        wait_until(lambda: session(session(None)[0])[1], what="a session that is resumed")
        before, _ = session(None)
        authorities.write_bytes(others.ca.read_bytes())
        with_other = certificates.context()
        with_other.load_cert_chain(others.client)
        wait_until(lambda: lets_in(server, with_other), what="the new authority")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            session(before)
