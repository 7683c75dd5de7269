"""What `bench.reports` reads: users, devices, leads, campaigns and millions of messages, written by PostgreSQL itself."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from siaran.credentials import KEY_MARK, PREFIX_LENGTH, hash_token
from siaran.models import ApiKey, Campaign, CampaignStatus, Device, Lane, User
from siaran.schedule import local_day

USERS = 200
DEVICES_EACH = 15
CAMPAIGNS_EACH = 10
BIGGEST = 1_000_000
ZONE = "Asia/Kuala_Lumpur"
PASSWORD_HASH = "!"
NEXT_CAMPAIGN = CAMPAIGNS_EACH - 1
RUNNING_CAMPAIGN = CAMPAIGNS_EACH - 2

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A user with an API key, and what the bench asks for; ids of leads and messages are the first and the last."""

    user_id: UUID
    token: str
    devices: Sequence[UUID]
    campaigns: Sequence[int]
    leads: int
    lead_ids: tuple[int, int] = (0, 0)
    message_ids: tuple[int, int] = (0, 0)


def token_of(number: int) -> str:
    """The API key of the so-manieth user of the bench."""
    return f"{KEY_MARK}bench-{number:04d}-of-a-database-that-is-thrown-away"


def sizes(messages: int) -> tuple[int, int]:
    """Messages of the biggest campaign, and of each of the others that has been sent to."""
    biggest = min(BIGGEST, messages // 2)
    return biggest, (messages - biggest) // (USERS * (CAMPAIGNS_EACH - 1) - 1)


# What became of a message follows from its lead and campaign alone. A campaign under way has 30 % still to send.
_MESSAGES = text("""
    INSERT INTO broadcast_messages (user_id, device_id, campaign_id, source, lead_id, recipient_phone, recipient_name,
        recipient_niche, message_type, cycle, status, attempt, error_code, error_message, is_retryable, scheduled_at,
        claimed_at, sent_at, delivered_at, read_at, created_at)
    SELECT user_id, device_id, campaign_id, 'campaign:' || campaign_id, lead_id, phone, name, niche, 'text', 0, status,
        CASE WHEN status IN ('pending', 'suppressed', 'cancelled') THEN 0 ELSE 1 END,
        CASE status WHEN 'failed' THEN 'not_on_whatsapp' WHEN 'unknown' THEN 'outcome_unknown' END,
        CASE status WHEN 'failed' THEN 'This number is not on WhatsApp.' END, status = 'failed' AND lead_id % 2 = 0, due_at,
        CASE WHEN status NOT IN ('pending', 'cancelled') THEN at END,
        CASE WHEN status IN ('sent', 'delivered', 'read') THEN at END,
        CASE WHEN status IN ('delivered', 'read') THEN at + interval '3 seconds' END,
        CASE WHEN status = 'read' THEN at + interval '3 minutes' END, due_at
    FROM (
        SELECT l.user_id, c.devices[1 + (l.id + c.id) % :devices] AS device_id, c.id AS campaign_id, l.id AS lead_id, l.phone,
            l.name, l.niche, c.due_at, c.due_at + dice.part * c.span AS at,
            CASE WHEN c.is_running AND dice.part > 0.7 THEN 'pending' WHEN dice.fate < 45 THEN 'read'
                WHEN dice.fate < 75 THEN 'delivered' WHEN dice.fate < 90 THEN 'sent' WHEN dice.fate < 95 THEN 'failed'
                WHEN dice.fate < 96 THEN 'unknown' WHEN dice.fate < 98 THEN 'suppressed' ELSE 'cancelled' END AS status
        FROM (
            SELECT c.id, c.user_id, CAST(:devices_of AS uuid[]) AS devices, c.scheduled_at AS due_at, s.messages,
                c.status = 'sending' AS is_running, (CAST(:now AS timestamptz) - c.scheduled_at) * s.days_share AS span
            FROM unnest(CAST(:campaigns AS bigint[]), CAST(:messages AS int[]), CAST(:shares AS float8[]))
                AS s(id, messages, days_share)
            JOIN campaigns c ON c.id = s.id
        ) c
        JOIN leads l ON l.user_id = c.user_id AND l.phone <= '601' || lpad(CAST(c.messages AS text), 8, '0')
        CROSS JOIN LATERAL (
            SELECT (hashint8(l.id * 31 + c.id) & 65535) / 65536.0 AS part,
                (hashint8(l.id * 17 + c.id) & 2147483647) % 100 AS fate
        ) dice
        ORDER BY c.id, l.id
    ) rows
""")

_LEADS = text("""
    INSERT INTO leads (user_id, device_id, name, phone, niche, niches, journey, status, target_status, source, created_at)
    SELECT :user, (CAST(:devices_of AS uuid[]))[1 + n / 20 % :devices],
        (ARRAY['Siti', 'Nurul', 'Ahmad', 'Muhammad', 'Wei Ling', 'Kumar', 'Aisyah', 'Farid', 'Mei', 'Raj'])[1 + n % 10] || ' '
            || (ARRAY['Aminah', 'Hassan', 'Tan', 'Lim', 'Rahman', 'Osman', 'Devi'])[1 + n % 7] || ' ' || n,
        '601' || lpad(CAST(n AS text), 8, '0'), 'NICHE' || n % 20,
        ARRAY['NICHE' || n % 20], '', 'new', CASE WHEN n % 3 = 0 THEN 'customer' ELSE 'prospect' END, 'import', now()
    FROM generate_series(1, CAST(:leads AS int)) n
""")

_AFTERWARDS = {
    "counting by campaign": """
        INSERT INTO campaign_counts (campaign_id, device_id, user_id, pending, sent, delivered, read, failed, unknown,
            suppressed, cancelled)
        SELECT campaign_id, device_id, user_id, count(*) FILTER (WHERE status = 'pending'),
            count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'delivered'),
            count(*) FILTER (WHERE status = 'read'), count(*) FILTER (WHERE status = 'failed'),
            count(*) FILTER (WHERE status = 'unknown'), count(*) FILTER (WHERE status = 'suppressed'),
            count(*) FILTER (WHERE status = 'cancelled')
        FROM broadcast_messages GROUP BY 1, 2, 3
    """,
    "counting by day": f"""
        INSERT INTO message_analytics (user_id, device_id, day, sent, delivered, read, failed, replied)
        SELECT user_id, device_id, CAST(coalesce(sent_at, claimed_at) AT TIME ZONE '{ZONE}' AS date),
            count(*) FILTER (WHERE sent_at IS NOT NULL), count(*) FILTER (WHERE delivered_at IS NOT NULL),
            count(*) FILTER (WHERE read_at IS NOT NULL), count(*) FILTER (WHERE status IN ('failed', 'unknown')), count(*) / 40
        FROM broadcast_messages WHERE status IN ('sent', 'delivered', 'read', 'failed', 'unknown') GROUP BY 1, 2, 3
    """,
    "opt-outs": """
        INSERT INTO suppressions (user_id, phone, reason, source, created_at)
        SELECT user_id, phone, 'STOP', 'reply', now() FROM leads WHERE id % 50 = 0
    """,
    "activity": """
        INSERT INTO activity_log (user_id, kind, subject, device_id, details, created_at)
        SELECT c.user_id, (ARRAY['campaign.created', 'campaign.started', 'campaign.paused', 'device.linked'])[1 + n % 4],
            'campaign:' || c.id, CASE WHEN n % 4 = 3 THEN d.device_id END, '{}', c.scheduled_at + n * interval '1 second'
        FROM campaigns c CROSS JOIN generate_series(1, 100) n
        JOIN LATERAL (SELECT id AS device_id FROM user_devices d WHERE d.user_id = c.user_id LIMIT 1) d ON true
        ORDER BY n
    """,
}


async def fill(engine: AsyncEngine, messages: int, say: Progress) -> None:
    """Write everything into a migrated, empty database and analyse it."""
    now = datetime.now(UTC)
    async with engine.begin() as connection:
        tenants = await _add_tenants(connection, messages, now)
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        # Nothing here breaks a foreign key, and nothing has to survive a crash.
        for setting in ("session_replication_role = replica", "synchronous_commit = off", "maintenance_work_mem = '1GB'"):
            await connection.execute(text(f"SET {setting}"))
        rebuild = await _drop_indexes(connection, "broadcast_messages")
        rebuild += await _drop_indexes(connection, "leads", but=("uq_leads_user_id_phone",))
        biggest, usual = sizes(messages)
        for number, tenant in enumerate(tenants):
            say(f"messages of user {number + 1} of {len(tenants)}")
            counts = [usual] * NEXT_CAMPAIGN
            if number == 0:
                counts[RUNNING_CAMPAIGN] = biggest
            values = {"user": tenant.user_id, "devices_of": list(tenant.devices), "devices": DEVICES_EACH}
            await connection.execute(_LEADS, {**values, "leads": tenant.leads})
            del values["user"]
            # Every campaign takes most of the time since it was due, so that every device has sent on every day.
            shares = [0.9] * RUNNING_CAMPAIGN + [1.0]
            campaigns = list(tenant.campaigns[:NEXT_CAMPAIGN])
            await connection.execute(
                _MESSAGES, {**values, "campaigns": campaigns, "messages": counts, "shares": shares, "now": now}
            )
        for what, statement in [*rebuild, *_AFTERWARDS.items()]:
            began = time.monotonic()
            await connection.execute(text(statement))
            say(f"{what}: {time.monotonic() - began:.0f} s")
        say("VACUUM ANALYZE")
        await connection.execute(text("VACUUM ANALYZE"))
        await connection.execute(text("CHECKPOINT"))


async def _add_tenants(connection: AsyncConnection, messages: int, now: datetime) -> list[Tenant]:
    biggest, usual = sizes(messages)
    users = [uuid4() for _ in range(USERS)]
    people = [
        {
            "id": user_id,
            "email": f"bench{number}@example.com",
            "full_name": "Bench",
            "password_hash": PASSWORD_HASH,
            "timezone": ZONE,
            "country": "MY",
        }
        for number, user_id in enumerate(users)
    ]
    await connection.execute(insert(User), people)
    keys = [
        {
            "user_id": user_id,
            "name": "bench",
            "prefix": token_of(number)[:PREFIX_LENGTH],
            "key_hash": hash_token(token_of(number)),
            "scopes": ["read"],
            "created_at": now,
        }
        for number, user_id in enumerate(users)
    ]
    await connection.execute(insert(ApiKey), keys)
    devices = {user_id: [uuid4() for _ in range(DEVICES_EACH)] for user_id in users}
    rows = [
        {
            "id": device_id,
            "user_id": user_id,
            "device_name": f"Device {number}",
            "status": "online" if number % 3 else "offline",
        }
        for user_id, owned in devices.items()
        for number, device_id in enumerate(owned)
    ]
    await connection.execute(insert(Device), rows)
    await connection.execute(insert(Lane), [{"device_id": row["id"], "user_id": row["user_id"]} for row in rows])
    statement = insert(Campaign).returning(Campaign.id, sort_by_parameter_order=True)
    planned = [_campaign(user_id, number, now) for user_id in users for number in range(CAMPAIGNS_EACH)]
    ids = list((await connection.execute(statement, planned)).scalars())
    return [
        Tenant(
            user_id,
            token_of(number),
            devices[user_id],
            ids[number * CAMPAIGNS_EACH : (number + 1) * CAMPAIGNS_EACH],
            biggest if number == 0 else usual,
        )
        for number, user_id in enumerate(users)
    ]


def _campaign(user_id: UUID, number: int, now: datetime) -> Mapping[str, object]:
    """The campaigns of a user lie nine days apart; the last but one is under way for some days, the last is for tomorrow."""
    days = {RUNNING_CAMPAIGN: 0, NEXT_CAMPAIGN: -1}.get(number, 9 * (RUNNING_CAMPAIGN - number))
    due_at = now - timedelta(days=days, hours=6)
    status = {RUNNING_CAMPAIGN: CampaignStatus.SENDING, NEXT_CAMPAIGN: CampaignStatus.SCHEDULED}.get(
        number, CampaignStatus.SENT
    )
    day = local_day(due_at, ZONE)
    return {
        "user_id": user_id,
        "title": f"Promo {number}",
        "niche": f"NICHE{number}" if number % 2 else "",
        "target_status": "prospect",
        "message": "Hi {{name|friend}}, {our|the} sale ends today. Reply STOP to opt out.",
        "campaign_date": day,
        "scheduled_time": due_at.time().replace(microsecond=0),
        "scheduled_at": due_at,
        "status": status,
        "started_at": None if status is CampaignStatus.SCHEDULED else due_at,
        "expanded_at": None if status is CampaignStatus.SCHEDULED else due_at,
    }


async def _drop_indexes(connection: AsyncConnection, table: str, but: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Drop the secondary indexes of a table; returns what brings each back, by name. Built at the end they take seconds."""
    query = text("""
        SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition,
            pg_get_constraintdef(c.oid) AS constraint_definition
        FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'u'
        WHERE i.indrelid = CAST(:table AS regclass) AND NOT i.indisprimary
    """)
    rows = [row for row in await connection.execute(query, {"table": table}) if row.name not in but]
    rebuild = []
    for row in rows:
        if row.constraint_definition is None:
            await connection.execute(text(f"DROP INDEX {row.name}"))
            rebuild.append((row.name, row.definition))
        else:
            await connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {row.name}"))
            rebuild.append((row.name, f"ALTER TABLE {table} ADD CONSTRAINT {row.name} {row.constraint_definition}"))
    return rebuild


async def find_tenants(engine: AsyncEngine) -> list[Tenant]:
    """The users that were written, the one with most leads first; each with the ids between which its rows lie."""
    query = text("""
        SELECT u.id, array(SELECT d.id FROM user_devices d WHERE d.user_id = u.id ORDER BY d.device_name, d.id) AS devices,
            array(SELECT c.id FROM campaigns c WHERE c.user_id = u.id ORDER BY c.id) AS campaigns,
            l.first_id, l.last_id, l.leads
        FROM users u
        JOIN LATERAL (
            SELECT min(id) AS first_id, max(id) AS last_id, count(*) AS leads FROM leads WHERE user_id = u.id
        ) l ON true
        WHERE u.password_hash = :hash ORDER BY l.leads DESC, l.first_id
    """)
    span = text("SELECT min(id) AS first_id, max(id) AS last_id FROM broadcast_messages WHERE campaign_id = :campaign")
    tenants = []
    async with engine.connect() as connection:
        for number, row in enumerate((await connection.execute(query, {"hash": PASSWORD_HASH})).all()):
            messages = (await connection.execute(span, {"campaign": row.campaigns[RUNNING_CAMPAIGN]})).one()
            tenants.append(
                Tenant(
                    user_id=row.id,
                    token=token_of(number),
                    devices=row.devices,
                    campaigns=row.campaigns,
                    leads=row.leads,
                    lead_ids=(row.first_id, row.last_id),
                    message_ids=(messages.first_id, messages.last_id),
                )
            )
    return tenants


async def count_messages(engine: AsyncEngine) -> int:
    """How many rows the ledger has."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM broadcast_messages"))).scalar_one())
