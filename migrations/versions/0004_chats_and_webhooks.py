"""What real accounts need: linkings under way, media of chats, automatic replies, broadcasts, webhooks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "auto_replies",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("replied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["message_id"], ["broadcast_messages.id"], name=op.f("fk_auto_replies_message_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_auto_replies_user_id")),
        sa.PrimaryKeyConstraint("user_id", "phone", name=op.f("pk_auto_replies")),
    )
    op.create_table(
        "broadcasts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("media_url", sa.Text(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("first_message_id", sa.BigInteger(), nullable=False),
        sa.Column("last_message_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_broadcasts_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_broadcasts_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcasts")),
        sa.UniqueConstraint("user_id", "key", name=op.f("uq_broadcasts_user_id_key")),
    )
    op.create_index(op.f("ix_broadcasts_user_id_created_at"), "broadcasts", ["user_id", "created_at"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_webhooks_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_user_id_created_at"), "webhooks", ["user_id", "created_at"])
    op.create_table(
        "pairings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("method IN ('qr', 'code')", name=op.f("ck_pairings_method")),
        sa.CheckConstraint(
            "status IN ('wanted', 'running', 'linked', 'failed', 'expired', 'cancelled')", name=op.f("ck_pairings_status")
        ),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_pairings_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_pairings_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pairings")),
    )
    op.create_index(op.f("ix_pairings_user_id_created_at"), "pairings", ["user_id", "created_at"])
    op.create_index(
        "uq_pairings_open", "pairings", ["device_id"], unique=True, postgresql_where=sa.text("status IN ('wanted', 'running')")
    )
    op.create_table(
        "unlinkings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("jid", sa.Text(), nullable=False),
        sa.Column("link_generation", sa.Integer(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("try_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_unlinkings_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_unlinkings_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unlinkings")),
    )
    op.create_index("ix_unlinkings_open", "unlinkings", ["try_at"], postgresql_where=sa.text("done_at IS NULL"))
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("try_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_status")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_webhook_deliveries_user_id")),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_created_at"), "webhook_deliveries", ["created_at"], postgresql_using="brin")
    op.create_index(
        "ix_webhook_deliveries_failed",
        "webhook_deliveries",
        ["webhook_id", "id"],
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index(
        "ix_webhook_deliveries_pending",
        "webhook_deliveries",
        ["target", "try_at", "id"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(op.f("ix_webhook_deliveries_user_id_webhook_id_id"), "webhook_deliveries", ["user_id", "webhook_id", "id"])
    op.create_table(
        "chat_media",
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["whatsapp_messages.id"], name=op.f("fk_chat_media_message_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_chat_media_user_id")),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_chat_media")),
    )
    op.create_index(op.f("ix_chat_media_user_id"), "chat_media", ["user_id"])
    op.add_column("users", sa.Column("auto_reply", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("auto_reply_minutes", sa.Integer(), server_default="1440", nullable=False))
    op.add_column("whatsapp_chats", sa.Column("read_to_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("whatsapp_messages", sa.Column("media_state", sa.Text(), nullable=True))
    op.add_column("whatsapp_messages", sa.Column("media_mime_type", sa.Text(), nullable=True))
    op.add_column("whatsapp_messages", sa.Column("media_file_name", sa.Text(), nullable=True))
    op.add_column("whatsapp_messages", sa.Column("media_reference", sa.LargeBinary(), nullable=True))
    op.add_column("whatsapp_messages", sa.Column("media_tries", sa.Integer(), server_default="0", nullable=False))
    op.add_column("whatsapp_messages", sa.Column("media_try_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_users_auto_reply_minutes"), "users", "auto_reply_minutes > 0")
    op.create_check_constraint(
        op.f("ck_whatsapp_messages_media_state"), "whatsapp_messages", "media_state IN ('waiting', 'kept', 'too_large', 'gone')"
    )
    op.drop_constraint(op.f("uq_whatsapp_messages_device_id_chat_id_message_id"), "whatsapp_messages", type_="unique")
    op.create_unique_constraint(
        op.f("uq_whatsapp_messages_device_id_message_id_chat_id"), "whatsapp_messages", ["device_id", "message_id", "chat_id"]
    )
    op.create_index(
        "ix_whatsapp_messages_waiting",
        "whatsapp_messages",
        ["device_id", "media_try_at"],
        postgresql_where=sa.text("media_state = 'waiting'"),
    )


def downgrade() -> None:
    op.drop_index("ix_whatsapp_messages_waiting", table_name="whatsapp_messages")
    op.drop_constraint(op.f("uq_whatsapp_messages_device_id_message_id_chat_id"), "whatsapp_messages", type_="unique")
    op.create_unique_constraint(
        op.f("uq_whatsapp_messages_device_id_chat_id_message_id"), "whatsapp_messages", ["device_id", "chat_id", "message_id"]
    )
    op.drop_column("whatsapp_chats", "read_to_at")
    for column in (
        "media_try_at",
        "media_tries",
        "media_reference",
        "media_file_name",
        "media_mime_type",
        "media_state",
    ):
        op.drop_column("whatsapp_messages", column)
    for column in ("auto_reply_minutes", "auto_reply"):
        op.drop_column("users", column)
    for table in ("chat_media", "webhook_deliveries", "unlinkings", "pairings", "webhooks", "broadcasts", "auto_replies"):
        op.drop_table(table)
