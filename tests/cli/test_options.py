"""How the verbs reach the network."""

from __future__ import annotations

import argparse
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import certifi
import pytest

from mrtd.cli import options, serve, verify
from mrtd.cli.main import main
from mrtd.errors import SpecError, TransportError

VERBS: Final = {"verify": verify, "serve": serve}


def parsed(*words: str) -> argparse.Namespace:
    verb = argparse.ArgumentParser()
    options.add_network(verb)
    return verb.parse_args(words)


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that lets nobody through, its address, and whom it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Proxy-Authorization')}")
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_proxy_is_asked() -> None:
    with proxy() as (place, asked):
        fetch = options.fetch_of(parsed("--proxy", f"http://u:p@{place}"))
        with pytest.raises(TransportError):
            fetch("https://keys.example/certs", headers={}, limit=9, timeout=60)
    assert asked == ["keys.example:443 Basic dTpw"]


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_know_the_options(verb: str) -> None:
    top = argparse.ArgumentParser()
    VERBS[verb].add_to(top.add_subparsers(), "")
    words = [verb, *(["x"] if verb == "verify" else [])]
    found = top.parse_args([*words, "--proxy", "http://p:3128", "--ca-bundle", "ca.pem"])
    assert (found.proxy, found.ca_bundle) == ("http://p:3128", Path("ca.pem"))


@pytest.mark.parametrize(
    "text", ["", "p:3128", "https://p:3128", "socks5://p:1", "http://", "http://s3cret@p:x",
             "http://p:70000", "http://p:0", "http://[::1"],
)  # fmt: skip
def test_what_is_no_proxy(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", "x", "--proxy", text])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "--proxy: is not of the form http://HOST:PORT" in said
    assert "s3cret" not in said


def test_certificates_are_read_at_once(tmp_path: Path) -> None:
    options.fetch_of(parsed("--ca-bundle", certifi.where()))
    wrong = tmp_path / "ca.pem"
    for content, why in ((None, "cannot be read"), (b"", "holds no"), (b"\xff", "holds no")):
        if content is not None:
            wrong.write_bytes(content)
        with pytest.raises(SpecError, match=why) as caught:
            options.fetch_of(parsed("--ca-bundle", str(wrong)))
        assert caught.value.field == "--ca-bundle"
    with pytest.raises(SpecError):
        options.fetch_of(parsed("--ca-bundle", str(tmp_path)))
