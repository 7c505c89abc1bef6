"""The parser of server-sent events, by the rules of the WHATWG HTML standard, section 9.2.6."""

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_client.sse import ServerEvent, SseParser
from tests.unit.sse_bytes import ENDS, LINES, STARTS, cut_up


def parse(*pieces: bytes) -> list[ServerEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_every_line_end_of_the_standard_ends_a_line(end: str) -> None:
    stream = end.join(["event: state", "id: 3", "data: a", "data: b", "", ""])
    assert parse(stream.encode()) == [ServerEvent("state", "a\nb", "3")]


def test_a_crlf_cut_in_two_is_one_line_end() -> None:
    assert parse(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [
        ServerEvent("message", "a\nb", "")
    ]


def test_other_unicode_line_ends_are_text() -> None:
    text = "a\u2028b\x0bc\x85d"
    assert parse(f"data: {text}\n\n".encode()) == [ServerEvent("message", text, "")]


def test_one_byte_order_mark_is_dropped_even_when_it_comes_in_pieces() -> None:
    stream = "\ufeffdata: \ufeffa\n\n".encode()
    assert parse(*[bytes([byte]) for byte in stream]) == [ServerEvent("message", "\ufeffa", "")]


def test_a_line_end_right_after_the_byte_order_mark_ends_a_line() -> None:
    """Chromium, which the parser is compared with in tests/browser, takes it for text."""
    assert parse("\ufeff\nevent: end\ndata: a\n\n".encode()) == [ServerEvent("end", "a", "")]


def test_only_one_space_after_the_colon_is_dropped() -> None:
    assert parse(b"data:  a\n\ndata:b\n\n") == [
        ServerEvent("message", " a", ""),
        ServerEvent("message", "b", ""),
    ]


def test_an_event_without_data_is_not_given_out_but_its_id_stays() -> None:
    assert parse(b"event: state\nid: 7\n\ndata: a\n\n") == [ServerEvent("message", "a", "7")]


def test_a_data_line_without_a_value_is_an_empty_text() -> None:
    assert parse(b"data\n\n") == [ServerEvent("message", "", "")]


def test_an_id_with_nul_is_ignored_and_an_empty_one_resets() -> None:
    assert parse(b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid\ndata: c\n\n") == [
        ServerEvent("message", "a", "1"),
        ServerEvent("message", "b", "1"),
        ServerEvent("message", "c", ""),
    ]


def test_comments_and_unknown_fields_are_ignored() -> None:
    assert parse(b": heartbeat\n\nnoise: x\ndata: a\n\n") == [ServerEvent("message", "a", "")]


@pytest.mark.parametrize(
    ("line", "expected"), [("1500", 1500), ("1.5", None), ("", None), ("٣", None)]
)
def test_retry_takes_ascii_digits_only(line: str, expected: int | None) -> None:
    parser = SseParser()
    parser.feed(f"retry: {line}\n".encode())
    assert parser.retry_ms == expected


def test_an_event_that_the_connection_cut_short_is_never_given_out() -> None:
    assert parse(b"data: a\n\ndata: b\n") == [ServerEvent("message", "a", "")]


lines = st.lists(
    st.one_of(
        st.just(""),
        st.text(st.sampled_from(": adeintvr\ufeff\0\x0bé😀"), max_size=12),
        st.builds(
            "{}: {}".format, st.sampled_from(["data", "event", "id", "retry"]), st.text(max_size=5)
        ),
    ),
    max_size=20,
)


@given(lines=lines, ends=st.data())
def test_where_the_network_cuts_the_bytes_makes_no_difference(
    lines: list[str], ends: st.DataObject
) -> None:
    end = st.sampled_from(["\n", "\r", "\r\n"])
    stream = "".join(line + ends.draw(end) for line in lines).encode()
    cuts = sorted(ends.draw(st.sets(st.integers(0, len(stream)))))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*pieces) == parse(stream)


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["message", "state", "end"]),
            st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1),
            st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8")),
        )
    ),
    end=st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_what_was_written_is_read_back(events: list[tuple[str, list[str], str]], end: str) -> None:
    stream = "".join(
        end.join([f"event: {event}", f"id: {name}", *(f"data: {line}" for line in data), "", ""])
        for event, data, name in events
    )
    assert parse(stream.encode()) == [
        ServerEvent(event, "\n".join(data), name) for event, data, name in events
    ]


def by_httpx_sse(stream: bytes) -> list[ServerEvent]:
    """What another library reads. It keeps the byte order mark, which the standard drops."""
    content = stream.removeprefix("\ufeff".encode())
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    found = EventSource(httpx.Response(200, headers=headers, content=content)).iter_sse()
    return [ServerEvent(sse.event or "message", sse.data, sse.id) for sse in found]


@given(
    start=st.sampled_from(STARTS),
    lines=st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=40),
    cuts=st.integers(0, 3),
)
@settings(max_examples=800)
def test_any_bytes_cut_anywhere_are_read_as_another_library_reads_them(
    start: bytes, lines: list[tuple[bytes, bytes]], cuts: int
) -> None:
    """Events with no text are left out: that library gives out those without data as well."""
    stream = start + b"".join(line + end for line, end in lines)
    ours = [event for event in parse(*cut_up(stream, cuts)) if event.data]
    assert ours == [event for event in by_httpx_sse(stream) if event.data]
