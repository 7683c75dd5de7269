"""What leads and campaigns need beyond the main job: stop-loss baselines, incoming messages, confirmations of opt-outs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Whether a device has a chat with a phone already: it wrote to it, or heard from it.
_HAS_CHAT = """
    CREATE FUNCTION has_chat(owner uuid, device uuid, phone text) RETURNS boolean STABLE PARALLEL SAFE LANGUAGE sql AS $$
        SELECT EXISTS (
            SELECT FROM broadcast_messages m
            WHERE m.user_id = owner AND m.recipient_phone = phone AND m.device_id = device AND m.sent_at IS NOT NULL
        ) OR EXISTS (
            SELECT FROM incoming_messages i WHERE i.device_id = device AND i.sender = phone AND i.user_id = owner
        )
    $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "campaigns",
        sa.Column("stop_baseline", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
    )
    op.add_column("broadcast_messages", sa.Column("ignores_opt_out", sa.Boolean(), server_default="false", nullable=False))
    op.create_table(
        "incoming_messages",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("whatsapp_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("is_reply", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_incoming_messages_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_incoming_messages_user_id")),
        sa.PrimaryKeyConstraint("device_id", "sender", "whatsapp_id", name=op.f("pk_incoming_messages")),
    )
    op.create_index(
        "ix_suppressions_campaign", "suppressions", ["campaign_id"], postgresql_where=sa.text("campaign_id IS NOT NULL")
    )
    op.create_index(
        op.f("ix_incoming_messages_received_at"), "incoming_messages", ["received_at"], unique=False, postgresql_using="brin"
    )
    op.create_table(
        "one_off_keys",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["broadcast_messages.id"], name=op.f("fk_one_off_keys_message_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_one_off_keys_user_id")),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_one_off_keys")),
    )
    op.execute(_HAS_CHAT)
    _create_imports()
    op.execute("ALTER TABLE message_analytics SET (fillfactor = 50)")
    # Images and videos are compressed already.
    op.execute("ALTER TABLE media ALTER COLUMN content SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_index("ix_suppressions_campaign", table_name="suppressions")
    op.execute("ALTER TABLE media ALTER COLUMN content SET STORAGE EXTENDED")
    op.execute("ALTER TABLE message_analytics RESET (fillfactor)")
    _drop_imports()
    op.execute("DROP FUNCTION has_chat(uuid, uuid, text)")
    op.drop_table("one_off_keys")
    op.drop_table("incoming_messages")
    op.drop_column("broadcast_messages", "ignores_opt_out")
    op.drop_column("campaigns", "stop_baseline")


def _create_imports() -> None:
    op.add_column("lead_imports", sa.Column("delimiter", sa.Text(), server_default=",", nullable=False))
    op.add_column("lead_imports", sa.Column("country", sa.Text(), server_default="MY", nullable=False))
    op.add_column("lead_imports", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "lead_imports", sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
    )
    op.add_column("lead_imports", sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_lead_imports_open", "lead_imports", ["updated_at"], postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.create_index("ix_lead_imports_to_clear", "lead_imports", ["finished_at"], postgresql_where=sa.text("cleared_at IS NULL"))
    for table in ("lead_import_chunks", "lead_import_rejections"):
        op.create_table(
            table,
            sa.Column("import_id", sa.Uuid(), nullable=False),
            sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("content", sa.LargeBinary(), nullable=False),
            sa.Column("user_id", sa.Uuid(), nullable=False),
            sa.ForeignKeyConstraint(["import_id"], ["lead_imports.id"], name=op.f(f"fk_{table}_import_id")),
            sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f(f"fk_{table}_user_id")),
            sa.PrimaryKeyConstraint("import_id", "position", name=op.f(f"pk_{table}")),
        )
    # An upload is read once, soon: compressing it would cost more than it saves.
    op.execute("ALTER TABLE lead_import_chunks ALTER COLUMN content SET STORAGE EXTERNAL")
    op.create_table(
        "lead_import_rows",
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["lead_imports.id"], name=op.f("fk_lead_import_rows_import_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_lead_import_rows_user_id")),
        sa.PrimaryKeyConstraint("import_id", "line", name=op.f("pk_lead_import_rows")),
    )


def _drop_imports() -> None:
    for table in ("lead_import_rows", "lead_import_rejections", "lead_import_chunks"):
        op.drop_table(table)
    op.drop_index("ix_lead_imports_to_clear", table_name="lead_imports")
    op.drop_index("ix_lead_imports_open", table_name="lead_imports")
    for column in ("cleared_at", "updated_at", "started_at", "country", "delimiter"):
        op.drop_column("lead_imports", column)
