"""Who may use a server, and what browsers are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from toy_server import Running, pcm, running, wav

from s2s.errors import UserError
from s2s.server.models import named_models
from s2s.server.settings import ServerSettings

TOKEN = "correct-horse"


@pytest.fixture(scope="module")
def guarded(bundle: Path) -> Iterator[Running]:
    settings = ServerSettings(token=TOKEN, origins=("https://example.org",))
    with running({"toy": str(bundle)}, settings) as found:
        yield found


def test_without_the_token_nothing_is_told(guarded: Running) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer x"},
    ):
        for path in ("/v1/models", "/metrics", "/docs", "/v1/audio/transcriptions"):
            answer = guarded.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "invalid_token"
        assert guarded.post(wav(pcm(1.0)), headers=headers).status_code == 401


def test_with_the_token_all_is(guarded: Running) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/v1/models", headers=headers).json()["data"][0]["id"] == "toy"
    assert guarded.post(wav(pcm(1.0)), headers=headers).status_code == 200


def test_the_page_and_health_need_no_token(guarded: Running) -> None:
    assert guarded.get("/").status_code == 200
    assert guarded.get("/page/script.js").status_code == 200
    assert guarded.get("/health").json()["token"] is True


def test_other_pages_may_use_it_where_they_are_listed(guarded: Running) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    listed = guarded.get("/v1/models", headers={**headers, "Origin": "https://example.org"})
    assert listed.headers["Access-Control-Allow-Origin"] == "https://example.org"
    other = guarded.get("/v1/models", headers={**headers, "Origin": "https://example.net"})
    assert other.status_code == 403
    assert "Access-Control-Allow-Origin" not in other.headers
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    url = f"{guarded.url}/v1/audio/transcriptions"
    answer = httpx.options(url, headers={"Origin": "https://example.org", **preflight})
    assert answer.status_code == 204
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert httpx.options(url, headers={"Origin": "https://example.net", **preflight}).status_code == 403


def test_by_default_no_page_of_another_server_may(served: Running) -> None:
    for origin in ("https://example.org", "null", "http://127.0.0.1:1"):
        answer = served.get("/v1/models", headers={"Origin": origin})
        assert answer.status_code == 403
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert served.get("/v1/models", headers={"Origin": served.url}).status_code == 200


def test_the_page_brings_all_it_needs(served: Running) -> None:
    """No address but the server's own, in any file of it, and browsers are told to ask for none."""
    answer = served.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|https?:|\*", policy)
    names = re.findall(r'(?:src|href)="([^"#]+)"', answer.text)
    seen = [answer.text]
    for name in names:
        if not name.startswith("data:"):
            assert name.startswith("page/")
            found = served.get("/" + name)
            assert found.status_code == 200
            seen.append(found.text)
    assert len(seen) > 2
    for text in seen:
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\beval\(|innerHTML|<script>|style=", text)


@pytest.mark.parametrize(
    "path", ["/page/..%2f..%2fapp.py", "/page/../app.py", "/page/none.js", "/etc/passwd", "/page/"]
)
def test_paths_lead_nowhere_else(served: Running, path: str) -> None:
    assert served.get(path).status_code == 404


def test_it_is_this_machine_alone_that_it_listens_to() -> None:
    assert ServerSettings().host == "127.0.0.1"
    for host, local in (("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)):
        assert ServerSettings(host=host).is_local == local


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70000}, r"port 70000: expected 0 to 65535"),
        ({"idle_seconds": 0}, r"idle_seconds=0: expected a number above 0"),
        ({"max_sessions": -1}, r"max_sessions=-1"),
        ({"grace_seconds": float("nan")}, r"grace_seconds=nan"),
        ({"token": "a\nb"}, r"token: expected visible characters"),
    ],
)
def test_settings_out_of_range_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ServerSettings(**options)  # type: ignore[arg-type]


def test_models_have_the_names_they_are_given(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "bundle"
    folder.mkdir(parents=True)
    found = named_models(["whisper-base", f"mine={folder}", str(folder)])
    assert found == {"whisper-base": "whisper-base", "mine": str(folder), "run": str(folder)}
    with pytest.raises(UserError, match=r"there is a model named 'run' already"):
        named_models([str(folder), str(folder)])
    with pytest.raises(UserError, match=r"expected MODEL or NAME=MODEL"):
        named_models(["=whisper-base"])
