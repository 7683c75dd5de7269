"""Whatever the order in which messages come, and however often: chats show what is newest, and count what is unread."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siaran.db import SessionMaker
from siaran.gateway.interface import Incoming
from tests.ledger.chat_desk import ChatDesk
from tests.ledger.driver import Ledger


@dataclass(frozen=True)
class Said:
    """A message of the contact, or of the account on its phone, at a second."""

    number: int
    second: int
    from_me: bool

    def event(self, desk: ChatDesk) -> Incoming:
        """As it is delivered."""
        name = f"message {self.number}"
        return desk.wrote(name, self.second) if self.from_me else desk.said(name, self.second)


SAID = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=12).map(
    lambda drawn: [Said(number, second, from_me) for number, (second, from_me) in enumerate(drawn)]
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Said], list[list[Said]]]:
    """Messages, and the batches in which they come: in any order, some of them again."""
    said = draw(SAID)
    order = draw(st.permutations(said + draw(st.lists(st.sampled_from(said), max_size=6))))
    cuts = sorted(draw(st.sets(st.integers(1, max(len(order) - 1, 1)), max_size=5)))
    bounds = [0, *cuts, len(order)]
    return said, [order[begin:end] for begin, end in pairwise(bounds) if begin < end]


def unread(said: Sequence[Said]) -> int:
    """What a person would count: messages of the contact that are later than the last of the account."""
    answered = max((one.second for one in said if one.from_me), default=-1)
    return sum(not one.from_me and one.second > answered for one in said)


@given(deliveries())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_lists_agree_with_the_messages(sessions: SessionMaker, drawn: tuple[list[Said], list[list[Said]]]) -> None:
    said, batches = drawn
    ledger = Ledger(sessions)
    await ledger.open()
    desk = ChatDesk(ledger)
    await desk.open()

    for batch in batches:
        await desk.hear(*(one.event(desk) for one in batch))

    chat, lines = await desk.chat(), await desk.lines()
    assert sorted(line.id for line in lines) == sorted(f"message {one.number}" for one in said)
    assert (chat.last_message, chat.last_message_at) == (lines[0].text, lines[0].sent_at)
    assert lines[0].sent_at == max(line.sent_at for line in lines)
    assert chat.unread == unread(said)


@given(deliveries(), st.integers(0, 8), st.integers(0, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_history_counts_the_same_before_and_after_what_came_later(
    sessions: SessionMaker, drawn: tuple[list[Said], list[list[Said]]], known_until: int, counted: int
) -> None:
    said, batches = drawn
    later = [one for one in said if one.second > known_until]
    ledger = Ledger(sessions)
    await ledger.open()
    counts = []
    for history_at in range(len(batches) + 1):
        desk = ChatDesk(ledger)
        await desk.open()
        old = [one.event(desk) for one in said if one.second <= known_until]
        piece = desk.past(*old, unread=counted, seconds=known_until)
        for number, batch in enumerate(batches):
            if number == history_at:
                await desk.hear(piece)
            await desk.hear(*(one.event(desk) for one in batch if one in later))
        await desk.hear(piece)
        counts.append((await desk.chat()).unread)

    has_answered = any(one.from_me for one in later)
    assert counts == [unread(later) + (0 if has_answered else counted)] * len(counts)
