"""What the WhatsApp library's error texts are taken to mean."""

import pytest

from siaran.gateway.interface import (
    LoggedOut,
    NotConnected,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Restricted,
    TransportError,
)
from siaran.gateway.whatsapp_errors import download_error, query_error, send_error, upload_error


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        ("server returned error 463", Restricted, "restricted_463"),
        ("server returned error 429", RateLimited, "rate_limited_429"),
        ("server returned error 479", Rejected, "refused_479"),
        ("server returned error 400", Rejected, "refused_400"),
        ("client is nil", NotConnected, "not_connected"),
        ("the store doesn't contain a device JID", LoggedOut, "logged_out"),
        ("invalid use of deleted device", LoggedOut, "logged_out"),
        ("failed to send message node: websocket not connected", NotConnected, "not_connected"),
        (
            "failed to get device list: websocket disconnected before info query returned response",
            NotConnected,
            "not_connected",
        ),
        ("failed to get device list: info query returned status 429: rate-overlimit", RateLimited, "rate_limited_429"),
        (
            "failed to get user info for 6281@s.whatsapp.net to fill LID cache: info query timed out",
            NotConnected,
            "not_connected",
        ),
        ("failed to send message node: frame too large (got 20 bytes, max 10 bytes)", Rejected, "message_too_large"),
    ],
)
def test_what_is_known_not_to_have_been_delivered_is_told_so(said: str, error: type[TransportError], code: str) -> None:
    failure = send_error(said)
    assert (type(failure), failure.code) == (error, code)


@pytest.mark.parametrize(
    "said",
    [
        "timed out waiting for message send response",
        "websocket disconnected before message send returned response",
        "websocket disconnected before message send (retry) returned response",
        "websocket not connected",  # said by the repetition of a message that was transmitted
        "failed to send message node: failed to write msg: use of closed network connection",
        "something that nobody has ever seen",
        "",
    ],
)
def test_whatever_may_have_gone_out_leaves_its_outcome_open(said: str) -> None:
    assert type(send_error(said)) is OutcomeUnknown


@pytest.mark.parametrize("code", [429, 463, 479, 500])
def test_a_refused_repetition_says_nothing_of_the_first_transmission(code: int) -> None:
    assert type(send_error(f"server returned error {code}", is_repeated=True)) is OutcomeUnknown


@pytest.mark.parametrize(("code", "is_retryable"), [(400, False), (415, False), (479, True), (500, True), (503, True)])
def test_refusals_that_pass_can_be_tried_again(code: int, is_retryable: bool) -> None:
    failure = send_error(f"server returned error {code}")
    assert isinstance(failure, Rejected)
    assert failure.retryable is is_retryable


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        ("upload failed with status code 503", Rejected, "upload_failed"),
        ("upload failed with status code 429", RateLimited, "rate_limited_429"),
        ("failed to refresh media connections: websocket not connected", NotConnected, "not_connected"),
        ("failed to execute request: Post: dial tcp: connection refused", NotConnected, "not_connected"),
    ],
)
def test_a_failed_upload_never_leaves_an_outcome_open(said: str, error: type[TransportError], code: str) -> None:
    failure = upload_error(said)
    assert (type(failure), failure.code) == (error, code)


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        ("download failed with status code 404", Rejected, "media_gone"),
        ("download failed with status code 410", Rejected, "media_gone"),
        ("download failed with status code 503", Rejected, "media_unavailable"),  # a try that counts: it may never end
        ("invalid media hmac", Rejected, "media_broken"),
        ("hash of media ciphertext doesn't match", Rejected, "media_broken"),
        ("media download path does not start with slash: @host/file", Rejected, "media_broken"),
        ("failed to decrypt file: padding is wrong", Rejected, "media_broken"),
        ("failed to refresh media connections: info query timed out", NotConnected, "not_connected"),
    ],
)
def test_a_file_that_cannot_come_any_more_is_told_from_one_that_may(said: str, error: type[TransportError], code: str) -> None:
    failure = download_error(said)
    assert (type(failure), failure.code) == (error, code)


def test_a_question_of_a_device_without_a_link_is_no_use() -> None:
    assert type(query_error("the store doesn't contain a device JID")) is LoggedOut
    assert type(query_error("info query timed out")) is NotConnected
