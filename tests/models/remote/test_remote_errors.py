"""Failures by kind; what servers say about when to come back."""

from __future__ import annotations

import ssl
from email.utils import formatdate

import pytest

from potstill.models.remote.error_messages import failure_from_exception, run_stopping_error
from potstill.models.remote.errors import Failure, read_retry_after
from potstill.models.remote.options import ServerOptions

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "2.5"}, 2.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        (
            {
                "retry-after": formatdate(NOW + 5000, usegmt=True),
                "date": formatdate(NOW + 4990, usegmt=True),
            },
            10.0,
        ),
        ({"retry-after": "Mon, 99 Foo 2026 00:00:00 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 999999999 23:59:59 GMT"}, None),
    ],
)
def test_when_to_come_back(headers, seconds):
    assert read_retry_after(headers, wall_time=NOW) == seconds


def test_kinds_are_those_of_the_contract():
    with pytest.raises(ValueError, match="no failure is called 'oops'"):
        Failure("oops", "x")
    assert str(Failure("malformed", "no choices")) == "malformed: no choices"


def test_what_is_the_servers_being_busy():
    busy = (
        Failure("rate", "x", status=429),
        Failure("server", "x", status=503),
        Failure("unreachable", "x"),
    )
    fine = (
        Failure("server", "x", status=500),
        Failure("refused", "x", status=400),
        Failure("malformed", "x"),
    )
    assert [f.is_server_busy for f in (*busy, *fine)] == [True] * 3 + [False] * 3
    late = Failure("timeout", "x", billed=True)
    assert late.is_server_busy


@pytest.mark.parametrize(
    ("error", "subject"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed"), "certificate"),
        (
            OSError("Cannot connect [SSLCertVerificationError: certificate has expired]"),
            "certificate",
        ),
        (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] hostname mismatch"), "certificate"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "tls"),
        (OSError("ClientConnectorSSLError: [SSL: TLSV1_ALERT_PROTOCOL_VERSION]"), "tls"),
    ],
)
def test_a_failure_of_tls_stops_the_run_and_speaks_of_the_certificate(error, subject):
    failure = failure_from_exception(error, "", was_sent=False)
    assert failure.stops_run and failure.detail.startswith(f"{subject}: ")
    options = ServerOptions(url="https://gpu-server/v1")
    said = str(run_stopping_error(failure, "m", options, []))
    assert "certificate" in said and "gpu-server" in said and "fix:" in said


def test_a_connection_that_is_refused_is_no_failure_of_tls():
    error = OSError("Cannot connect to host 127.0.0.1:9 ssl:default [Connect call failed]")
    assert failure_from_exception(error, "", was_sent=False).may_retry


def test_raised_again_it_costs_nothing():
    again = Failure("timeout", "late", billed=True, text="half").without_cost("no turn")
    assert (again.billed, again.text, again.tokens.completion) == (False, "", 0)
    assert str(again) == "timeout: late (no turn)"
