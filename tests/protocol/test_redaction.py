"""No credential survives: in URLs, parameters, headers, JSON, exceptions and logs."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camfleet_protocol.logs import ContextAdapter, JsonFormatter, TextFormatter
from camfleet_protocol.redaction import Redactor, redact

PASSWORDS = (
    "hunter2-canary",
    "p@ss/w:rd",
    "a?b#c&d=e",
    "quo\"te's",
    "back\\slash",
    "ümläut-密码",
    "per%41cent",
    "spa ce+plus",
    "a@b@c",
    "$(reboot);`x`",
)

# Text with PW where the password stands; nothing of it may survive though nobody registered it.
UNREGISTERED = {
    "userinfo": "cannot open rtsp://admin:PW@10.0.0.5:554/live",
    "user only": "rtsp://PW@cam/live",
    "two URLs": "rtsp://a:PW@h/1 and then http://b:PW@h/2",
    "in an exception": "HTTPUnauthorizedError(1, 'Unauthorized', 'rtsp://u:PW@cam/x')",
    "query": "GET /cameras/a/snapshot.jpg?ticket=PW&annotated=0",
    "password parameter": "rtsp://cam/live?user=admin&password=PW",
    "pwd": "/live?pwd=PW",
    "encoded =": "/live?password%3DPW",
    "yaml": "password: PW",
    "json": '{"username": "u", "password": "PW"}',
    "python repr": "{'api_key': 'PW'}",
    "bearer": "Authorization: Bearer PW",
    "basic": "authorization: Basic PW==",
    "subprotocol": ("Sec-WebSocket-Protocol: camera.v1, base64url.bearer.authorization.camfleet.io.PW"),
}


@pytest.mark.parametrize("name", UNREGISTERED)
def test_unregistered_in_context(name: str) -> None:
    text = Redactor()(UNREGISTERED[name].replace("PW", "hunter2-canary"))
    assert "hunter2" not in text and "canary" not in text
    assert "***" in text


def test_the_rest_stays_readable() -> None:
    assert redact("cannot open rtsp://u:p@10.0.0.5:554/live: timed out") == (
        "cannot open rtsp://***@10.0.0.5:554/live: timed out"
    )
    for text in (
        "http://127.0.0.1:8080/api/cameras is up",
        "ERROR camfleet_gateway.auth: no token is accepted until the file is good",
        "/etc/passwd: this is not a tokens file",
    ):
        assert redact(text) == text


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda p: quote(p, safe=""),
        quote,
        quote_plus,
        lambda p: re.sub("%[0-9A-F]{2}", lambda e: e[0].lower(), quote(p, safe="")),
        lambda p: json.dumps(p)[1:-1],
        lambda p: json.dumps(p, ensure_ascii=False)[1:-1],
        lambda p: repr(p)[1:-1],
        lambda p: str(ValueError(p)),
        lambda p: repr(OSError(5, p)),
    ],
    ids=[
        "plain",
        "quoted",
        "quoted but /",
        "plus",
        "lower hex",
        "json",
        "json unicode",
        "repr",
        "str",
        "OSError",
    ],
)
def test_registered_password_in_every_spelling(password: str, spell: Any) -> None:
    own = Redactor()
    own.add_secret(password)
    spelled = spell(password)
    for text in (f"the text {spelled} as such", f"rtsp://u:{spelled}@cam/", f"x={spelled}&y", spelled * 2):
        assert spelled not in own(text)


@given(st.text(st.characters(exclude_characters="*"), min_size=4, max_size=20), st.text(), st.text())
def test_a_registered_secret_never_survives(secret: str, before: str, after: str) -> None:
    own = Redactor()
    own.add_secret(secret)
    assert secret not in own(before + secret + after)
    assert secret not in own(f"rtsp://{secret}:{secret}@{after}")


@given(
    st.lists(st.text(st.characters(exclude_characters="*"), min_size=4, max_size=8), max_size=4), st.text()
)
def test_several_secrets_and_twice_is_the_same(secrets: list[str], around: str) -> None:
    own = Redactor()
    for secret in secrets:
        own.add_secret(secret)
    result = own(around + "".join(secrets) + around)
    assert not any(secret in result for secret in secrets)


def test_short_secrets_do_not_destroy_the_log() -> None:
    own = Redactor()
    own.add_secret("a")
    assert own("a camera") == "a camera"


def test_pathological_input_is_fast() -> None:
    for text in ("rtsp://" * 20_000, "token=" * 20_000, "://" + "a" * 200_000, "Bearer " * 30_000):
        redact(text)


# ── Logs ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[TextFormatter, JsonFormatter])
def log(request: pytest.FixtureRequest) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    logger = logging.getLogger(f"test-redaction-{request.param.__name__}")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    return logger, stream


def test_logs_are_redacted_with_tracebacks(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.info("open %s", "rtsp://u:hunter2@cam/live")
    try:
        try:
            raise OSError(5, "rtsp://u:hunter2@cam/live")
        except OSError as error:
            raise RuntimeError("token=hunter2") from error
    except RuntimeError:
        logger.exception("cannot open")
    adapter = ContextAdapter(logger, {"camera": "default.lobby", "attempt": 2, "pod": ""})
    adapter.warning("late", extra={"namespace": "rtsp://u:hunter2@x"})
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "default.lobby" in text and "cannot open" in text and "OSError" in text


def test_a_log_call_with_wrong_arguments_does_not_leak(
    log: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    logger, stream = log
    handler = logger.handlers[0]
    for text in ("%d frames", "no place for it"):
        record = logger.makeRecord("x", logging.INFO, "f", 1, text, ("rtsp://u:hunter2@cam/live",), None)
        handler.handle(record)
    captured = capsys.readouterr()
    assert "hunter2" not in stream.getvalue() + captured.err + captured.out
    assert "no place for it" in stream.getvalue()


def test_one_record_is_one_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.info("name %s", "evil\nINFO forged: line\r\nx")
    assert stream.getvalue().count("\n") == 1


def test_json_logs_have_their_fields() -> None:
    record = logging.LogRecord("camfleet.x", logging.WARNING, "f", 1, "late by %d ms", (12,), None)
    record.camera = "default.lobby"
    entry = json.loads(JsonFormatter().format(record))
    assert entry["message"] == "late by 12 ms"
    assert (entry["level"], entry["logger"], entry["camera"]) == ("warning", "camfleet.x", "default.lobby")
