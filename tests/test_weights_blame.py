"""Who answered, or stands in the way, is named, and what is advised is what that one can do."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import Ended, run
from tests.stores.host import Host
from tests.stores.mirror import Answer, Mirror, as_page, asked, files_of, in_words
from tests.stores.tls import Authority
from tests.stores.tunnel import Tunnel
from vllm_weights import blame, logins
from vllm_weights.addresses import bare

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

GATE = "/api/models/*"
SECOND = "model-00002-of-00002.safetensors"
TOKEN = {"HF_TOKEN": "hf_secretsecret"}
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
PLAIN_TO_TLS = as_page(400, "400 The plain HTTP request was sent to HTTPS port")
NETWORK = "NetworkPolicy"


def page(status: int, title: str, sentence: str, headers: dict[str, str] | None = None) -> Answer:
    body = f"<html><head><title>{title}</title><style>.denied {{}}</style></head><body><p>{sentence}</p><p>id 7</p></body></html>"
    return Answer(status, body.encode(), {"Content-Type": "text/html", **(headers or {})})


def looked(tmp_path: Path, answer: Answer, environment: dict[str, str] | None = None) -> Ended:
    with Mirror({}, {"*": answer}) as mirror:
        return asked("inspect", tmp_path, mirror, environment)


def looked_at(tmp_path: Path, environment: dict[str, str]) -> Ended:
    return run("inspect", {"source": "acme/tiny", "backoffSeconds": 0, "tries": 1}, tmp_path / "work", environment)


def test_a_public_hubs_name_with_anothers_certificate_is_dns_or_what_is_between(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    with Host(200) as host:
        authority.encrypt(host.tcp)
        with Tunnel(host.address) as tunnel:
            way = {"HTTPS_PROXY": f"http://{tunnel.address}", "SSL_CERT_FILE": str(authority.file)}
            ended = looked_at(tmp_path, way)

    assert (ended.answer["reason"], ended.answer["retry"]) == ("HubUnreachable", True), ended.output
    assert "made out for another name" in ended.answer["message"]
    assert "DNS leads huggingface.co elsewhere" in ended.answer["remedy"] and "hub.endpoint" in ended.answer["remedy"]
    assert "have the certificate made out" not in ended.answer["remedy"]


def test_a_gate_before_the_public_hub_that_wants_a_password_is_no_matter_of_the_token() -> None:
    wanted = httpx2.Response(401, headers={"WWW-Authenticate": 'Basic realm="gate"'}, text="no")
    found = logins.refused(wanted, "huggingface.co", is_the_hub=True, has_token=True, has_login=False)

    assert (str(found.reason), "What is before huggingface.co" in found.message) == ("HubRefused", True)


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("<html><title>No</title><style>.blocked {} .denied {}", ""),
        ("<html><!-- denied --><script>blocked()</script><p>All is well</p>", ""),
        (
            "<p>Hello</p><p>Your request was <!-- x -->blocked &amp; logged</p><div class='denied",
            "Your request was blocked & logged",
        ),
    ],
)
def test_only_what_a_reader_sees_of_a_page_is_quoted(page: str, sentence: str) -> None:
    assert blame.sentence_of(page) == sentence


@pytest.mark.parametrize(
    ("host", "name"),
    [("hf.example:80", "hf.example"), ("[::1]:80", "[::1]"), ("http://a:1, to which b redirects,", "a"), ("A", "a")],
)
def test_a_hosts_bare_name_is_found(host: str, name: str) -> None:
    assert bare(host) == name


def test_a_mirrors_certificate_of_another_name_is_shown_with_whose_it_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    with Host(200) as host:
        authority.encrypt(host.tcp)
        address = f"https://{host.address.replace('127.0.0.1', 'localhost')}"
        ended = looked_at(tmp_path, {"HF_ENDPOINT": address, "SSL_CERT_FILE": str(authority.file)})

    assert "it is server's, by authority of a test" in ended.answer["message"], ended.output
    assert "have the certificate made out for localhost" in ended.answer["remedy"]


def test_an_ingress_that_does_not_know_the_host_is_told_and_never_to_be_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls", "/O=Acme Co/CN=Kubernetes Ingress Controller Fake Certificate")
    with Host(200) as host:
        authority.encrypt(host.tcp)
        ended = looked_at(tmp_path, {"HF_ENDPOINT": f"https://{host.address}"})

    assert "Kubernetes Ingress Controller Fake Certificate's, by authority of a test" in ended.answer["message"]
    assert "TLS Secret" in ended.answer["remedy"] and "trustedCertificates" not in ended.answer["remedy"]


def test_an_authority_to_be_named_takes_the_public_ones_place(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    with Host(200) as host:
        authority.encrypt(host.tcp)
        ended = looked_at(tmp_path, {"HF_ENDPOINT": f"https://{host.address}"})

    assert "take the place of the public authorities" in ended.answer["remedy"]


@pytest.mark.parametrize("token", [{}, TOKEN])
def test_a_login_by_password_is_given_in_the_address(tmp_path: Path, token: dict[str, str]) -> None:
    wanted = page(401, "401 Authorization Required", "nginx", {"WWW-Authenticate": 'Basic realm="restricted"'})
    ended = looked(tmp_path, wanted, token)

    assert (ended.answer["reason"], ended.answer["retry"]) == ("InvalidToken", False)
    assert "wants a user and password" in ended.answer["message"]
    assert (
        ended.answer["remedy"].startswith("To give them, have hub.endpoint")
        and "USER:PASSWORD@" in ended.answer["remedy"]
    )


@pytest.mark.parametrize(
    ("location", "answer", "advice"),
    [
        ("/f?Signature=abc&of=", Answer(403, EXPIRED), "leads to the same address again"),
        ("", Answer(403, EXPIRED), "set its clock and that of"),
        ("", in_words(403, "no such key id"), "look at what it redirects to"),
    ],
)
def test_what_a_mirror_leads_to_for_nothing_is_its_own_to_mend(
    tmp_path: Path, location: str, answer: Answer, advice: str
) -> None:
    with Mirror({}, {"*": answer}) as store, Mirror(files_of(tmp_path)) as mirror:
        there = store.url.replace("127.0.0.1", "localhost")
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": f"{there}{location}"})
        ended = asked("pull", tmp_path, mirror, TOKEN)

    assert (ended.answer["reason"], ended.answer["retry"]) == ("HubUnreachable", True)
    assert advice in ended.answer["remedy"] and "or another mirror" in ended.answer["remedy"]
    assert "upload" not in ended.answer["remedy"] and "Signature" not in ended.output


def test_one_address_that_is_over_is_no_file_that_was_lost(tmp_path: Path) -> None:
    with (
        Mirror(files_of(tmp_path), {f"*/{SECOND}*": Answer(403, EXPIRED)}) as store,
        Mirror(files_of(tmp_path)) as mirror,
    ):
        there = store.url.replace("127.0.0.1", "localhost")
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": there})
        ended = asked("pull", tmp_path, mirror)

    assert ended.answer["reason"] == "HubUnreachable" and "keep no redirects" in ended.answer["remedy"]


def test_a_mirror_that_writes_http_before_a_port_of_tls_is_final(tmp_path: Path) -> None:
    with Mirror({}, {"*": PLAIN_TO_TLS}) as store, Mirror(files_of(tmp_path)) as mirror:
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": store.url})
        ended = asked("pull", tmp_path, mirror)

    assert (ended.answer["reason"], ended.code) == ("HubRefused", 3), ended.output
    assert f"-of-00002.safetensors to {store.url}" in ended.answer["message"]  # of whichever came first
    assert "X-Forwarded-Proto" in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("answer", "words", "advice"),
    [
        (as_page(502, "502 Bad Gateway"), "HTTP 502", "ask who runs 127.0.0.1"),
        (in_words(504, "Proxy Timeout"), "Proxy Timeout", "ask who runs 127.0.0.1"),
        (in_words(500, "No space left on device"), "No space left", "its disk"),
        (
            page(503, "Web Page Blocked", "Access to the page has been blocked by policy."),
            "Web Page Blocked",
            "firewall",
        ),
        (Answer(503, b"<Error><Code>SlowDown</Code></Error>"), "SlowDown", "spec.download.parallelism"),
    ],
)
def test_who_answers_is_asked_and_not_the_network(tmp_path: Path, answer: Answer, words: str, advice: str) -> None:
    ended = looked(tmp_path, answer)

    assert (ended.answer["reason"], ended.answer["retry"]) == ("HubUnreachable", True)
    assert words in ended.answer["message"] and "cannot be reached" not in ended.answer["message"]
    assert advice in ended.answer["remedy"] and NETWORK not in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("answer", "words", "advice"),
    [
        (
            page(403, "Just a moment...", "Enable JavaScript", {"cf-mitigated": "challenge"}),
            "Just a moment",
            "lets no programs in",
        ),
        (
            page(403, "Access Denied", "Your request was denied by policy 7."),
            "denied by policy 7",
            "what stands before it",
        ),
        (page(403, "403 - Repository Manager", "nothing"), "403 - Repository Manager", "what stands before it"),
    ],
)
def test_a_page_that_refuses_is_asked_about_where_it_comes_from(
    tmp_path: Path, answer: Answer, words: str, advice: str
) -> None:
    ended = looked(tmp_path, answer, TOKEN)

    assert (ended.answer["reason"], words in ended.answer["message"]) == ("HubRefused", True), ended.output
    assert advice in ended.answer["remedy"] and "Give the token" not in ended.answer["remedy"]


@pytest.mark.parametrize("status", [403, 503])
def test_a_page_of_a_proxy_names_the_way_around_it(tmp_path: Path, status: int) -> None:
    refused = page(status, "ERROR: The requested URL could not be retrieved", "Access Denied.")
    with Mirror({}, {"*": refused}) as proxy:
        way = {"HF_ENDPOINT": "http://hf.corp.example", "HTTP_PROXY": proxy.url, **TOKEN}
        ended = looked_at(tmp_path, way)

    assert "may be what answers" in ended.answer["message"]
    assert ended.answer["remedy"].startswith("Where hf.corp.example may be reached without")
    assert "NO_PROXY" in ended.answer["remedy"] and "Give the token" not in ended.answer["remedy"]


def test_a_refusals_reason_phrase_is_told(tmp_path: Path) -> None:
    quarantined = Answer(403, b"<html><title>403 - Repository Manager</title></html>", {"Content-Type": "text/html"})
    said = Answer(
        403, quarantined.body, quarantined.headers, "REQUESTED ITEM IS QUARANTINED -- SEE https://iq.example/7"
    )
    ended = looked(tmp_path, said)

    assert "QUARANTINED -- SEE https://iq.example/7" in ended.answer["message"], ended.output
    assert ended.answer["remedy"].startswith("Ask who runs 127.0.0.1")


def test_a_redirect_to_another_port_of_the_own_host_is_named(tmp_path: Path) -> None:
    with Mirror(files_of(tmp_path)) as mirror:
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": "http://127.0.0.1:9"})
        ended = asked("pull", tmp_path, mirror)

    assert f"http://127.0.0.1:9, to which {mirror.address} redirects by its own name" in ended.answer["message"]
    assert "X-Forwarded-Proto" in ended.answer["remedy"] and NETWORK not in ended.answer["remedy"]


def test_a_pipeline_that_draws_is_no_model_with_weights_in_a_folder(tmp_path: Path) -> None:
    weights = files_of(tmp_path)[SECOND]
    with Mirror({"model_index.json": b"{}", "text_encoder/model.safetensors": weights}) as mirror:
        ended = asked("inspect", tmp_path, mirror)

    assert ended.answer["reason"] == "WeightsMissing" and "pipeline of Diffusers" in ended.answer["message"]
    assert "text_encoder" not in ended.answer["remedy"]


def test_a_host_that_is_silent_is_named(tmp_path: Path) -> None:
    write_model(tmp_path / "root/org/model", shards=1)
    with Hub(tmp_path / "root") as hub:
        hub.break_next("stall", where="cdn", times=-1)
        request = {"source": "org/model", "destination": str(tmp_path / "to"), "stallSeconds": 0.4, "backoffSeconds": 0}
        ended = run("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert ended.answer["reason"] == "DownloadStalled"
    assert f" from {hub.url.removeprefix('http://')}" in ended.answer["message"]


@pytest.mark.parametrize("status", [403, 405])
def test_a_filter_before_modelscope_is_told_in_its_words(tmp_path: Path, status: int) -> None:
    blocked = page(status, str(status), "Sorry, your request has been blocked as it may cause potential threats.")
    with Mirror({}, {"*": blocked}) as server:
        request = {"source": "modelscope://acme/tiny", "backoffSeconds": 0, "tries": 1}
        ended = run("inspect", request, tmp_path / "work", {"MODELSCOPE_ENDPOINT": server.url})

    assert ended.answer["reason"] == "HubRefused" and "spelling" not in ended.answer["remedy"]
    assert "your request has been blocked" in ended.answer["message"] and "filter" in ended.answer["remedy"]
