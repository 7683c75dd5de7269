"""The files of steps that are being saved: each URL is fetched once, outside of any transaction, and kept as media."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Context
from siaran.errors import Invalid
from siaran.media import reference_to, referenced_id
from siaran.media_fetch import keep_from_url
from siaran.models import Media, Sequence
from siaran.public_addresses import is_web_url
from siaran.sequence_fields import SequenceChanges
from siaran.sequence_steps import field_of
from siaran.sequences import steps_of
from siaran.tenancy import select_owned

Save = Callable[[AsyncSession, SequenceChanges], Awaitable[Sequence]]

MOST = 50
"""Addresses that one request may have fetched."""


async def keep_step_media(
    context: Context, user_id: UUID, wanted: SequenceChanges, check: Save, *, sequence_id: UUID | None = None
) -> SequenceChanges:
    """The changes with the reference of the kept file in place of each URL, fetched if it is new.

    `check` saves the changes in a transaction that is rolled back, so that whatever else is wrong is said before anything is
    fetched. Raises what it raises, and `Invalid` for `steps.N.image_url`.
    """
    if not _urls(wanted):
        return wanted
    async with context.sessions() as session:
        wanted = _placed(wanted, await _known(session, user_id, sequence_id))
        await check(session, wanted)
    urls = _urls(wanted)
    if len(urls) > MOST:
        raise Invalid.field("steps", f"name more than {MOST} addresses to fetch; upload the files")
    kept: dict[str, str] = {}
    for url, position in urls.items():
        media = await keep_from_url(
            context.sessions,
            user_id,
            url,
            field=field_of(position, "image_url"),
            allow_private=context.settings.allow_private_targets,
            clock=context.clock,
        )
        kept[url] = reference_to(media.id)
    return _placed(wanted, kept)


def _urls(wanted: SequenceChanges) -> dict[str, int]:
    """Every URL with the position of the first step that has it."""
    found: dict[str, int] = {}
    for position, step in enumerate(wanted.steps or ()):
        url = (step.media_url or "").strip()
        if is_web_url(url):
            found.setdefault(url, position)
    return found


def _placed(wanted: SequenceChanges, references: dict[str, str]) -> SequenceChanges:
    steps = [
        replace(step, media_url=references.get(step.media_url.strip(), step.media_url)) if step.media_url else step
        for step in wanted.steps or ()
    ]
    return replace(wanted, steps=steps)


async def _known(session: AsyncSession, user_id: UUID, sequence_id: UUID | None) -> dict[str, str]:
    """The references of what the steps carry already, by the URL it came from."""
    if sequence_id is None:
        return {}
    steps = (await steps_of(session, user_id, [sequence_id]))[sequence_id]
    ids = [media_id for step in steps if (media_id := referenced_id(step.media_url)) is not None]
    media = await session.scalars(select_owned(Media, user_id).where(Media.id.in_(ids), Media.source_url.is_not(None)))
    return {item.source_url: reference_to(item.id) for item in media if item.source_url is not None}
