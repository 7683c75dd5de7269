"""The first schema: accounts, devices with hosts and lanes, leads, campaigns, sequences, the ledger, chats and media."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Lets the index of niches begin with their owner.
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gin")
    op.create_table(
        "hosts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("transport IN ('simulated', 'whatsapp')", name=op.f("ck_hosts_transport")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
    )
    op.create_index("ix_hosts_live", "hosts", ["server"], unique=False, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("quiet_from", sa.Time(), nullable=True),
        sa.Column("quiet_until", sa.Time(), nullable=True),
        sa.Column("sending_weekdays", sa.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("contact_limit", sa.Integer(), nullable=True),
        sa.Column("contact_limit_days", sa.Integer(), nullable=False),
        sa.Column("opt_out_words", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("opt_out_reply", sa.Text(), nullable=False),
        sa.Column("password_changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role IN ('user', 'admin')", name=op.f("ck_users_role")),
        sa.CheckConstraint("(quiet_from IS NULL) = (quiet_until IS NULL)", name=op.f("ck_users_quiet_hours")),
        sa.CheckConstraint("contact_limit > 0 AND contact_limit_days > 0", name=op.f("ck_users_contact_limit")),
        sa.CheckConstraint("sending_weekdays <@ ARRAY[1,2,3,4,5,6,7]::smallint[]", name=op.f("ck_users_sending_weekdays")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index("uq_users_email", "users", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_audit_log_actor_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_audit_log_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_created_at"), "audit_log", ["created_at"], unique=False)
    op.create_index(op.f("ix_audit_log_owner_id_created_at"), "audit_log", ["owner_id", "created_at"], unique=False)
    op.create_table(
        "media",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_media_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_media")),
        sa.UniqueConstraint("user_id", "sha256", name=op.f("uq_media_user_id_sha256")),
    )
    op.create_table(
        "password_resets",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_password_resets_created_by")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_password_resets_user_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_password_resets")),
    )
    op.create_table(
        "user_devices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_name", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("jid", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("link_generation", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("max_per_minute", sa.Integer(), nullable=False),
        sa.Column("max_per_hour", sa.Integer(), nullable=False),
        sa.Column("max_per_day", sa.Integer(), nullable=False),
        sa.Column("min_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("max_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("warm_up_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("warm_up_first_day", sa.Integer(), nullable=True),
        sa.Column("warm_up_daily_step", sa.Integer(), nullable=True),
        sa.Column("host_id", sa.BigInteger(), nullable=True),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=True),
        sa.Column("offline_since_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("restricted_until_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('offline', 'connecting', 'online', 'logged_out', 'banned')", name=op.f("ck_user_devices_status")
        ),
        sa.CheckConstraint("transport IN ('simulated', 'whatsapp')", name=op.f("ck_user_devices_transport")),
        sa.CheckConstraint("max_per_minute > 0 AND max_per_hour > 0 AND max_per_day > 0", name=op.f("ck_user_devices_caps")),
        sa.CheckConstraint(
            "min_delay_seconds >= 0 AND max_delay_seconds >= min_delay_seconds", name=op.f("ck_user_devices_delays")
        ),
        sa.CheckConstraint("warm_up_first_day > 0 AND warm_up_daily_step > 0", name=op.f("ck_user_devices_warm_up")),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_user_devices_host_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_devices_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_devices")),
    )
    op.create_index(
        "ix_user_devices_host_id", "user_devices", ["host_id"], unique=False, postgresql_where=sa.text("host_id IS NOT NULL")
    )
    op.create_index(
        "ix_user_devices_linked",
        "user_devices",
        ["transport"],
        unique=False,
        postgresql_where=sa.text("jid IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_index(
        "ix_user_devices_user",
        "user_devices",
        ["user_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_user_devices_jid",
        "user_devices",
        ["jid"],
        unique=True,
        postgresql_where=sa.text("jid IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_table(
        "user_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_user_sessions_token_hash")),
    )
    op.create_index(op.f("ix_user_sessions_expires_at"), "user_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_user_sessions_user_id"), "user_sessions", ["user_id"], unique=False)
    op.create_table(
        "activity_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_activity_log_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_activity_log_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activity_log")),
    )
    op.create_index(op.f("ix_activity_log_user_id_device_id_id"), "activity_log", ["user_id", "device_id", "id"], unique=False)
    op.create_index(op.f("ix_activity_log_user_id_id"), "activity_log", ["user_id", "id"], unique=False)
    op.create_table(
        "campaigns",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("niche", sa.Text(), nullable=False),
        sa.Column("target_status", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("image_url", sa.Text(), nullable=True),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("campaign_date", sa.Date(), nullable=False),
        sa.Column("scheduled_time", sa.Time(), nullable=False),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("min_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("max_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("device_strategy", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("canary_size", sa.Integer(), nullable=True),
        sa.Column("canary_passed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_failed_percent", sa.Integer(), nullable=True),
        sa.Column("stop_opted_out_percent", sa.Integer(), nullable=True),
        sa.Column("expansion_cursor", sa.BigInteger(), nullable=False),
        sa.Column("expanded", sa.Integer(), nullable=False),
        sa.Column("expanded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("device_strategy IN ('balanced', 'sticky', 'owner')", name=op.f("ck_campaigns_device_strategy")),
        sa.CheckConstraint("message_type IN ('text', 'image', 'video', 'document')", name=op.f("ck_campaigns_message_type")),
        sa.CheckConstraint(
            "status IN ('scheduled', 'sending', 'waiting', 'paused', 'sent', 'failed', 'cancelled')",
            name=op.f("ck_campaigns_status"),
        ),
        sa.CheckConstraint("target_status IN ('prospect', 'customer')", name=op.f("ck_campaigns_target_status")),
        sa.CheckConstraint("canary_size > 0", name=op.f("ck_campaigns_canary_size")),
        sa.CheckConstraint(
            "min_delay_seconds >= 0 AND max_delay_seconds >= min_delay_seconds", name=op.f("ck_campaigns_delays")
        ),
        sa.CheckConstraint("stop_failed_percent BETWEEN 1 AND 100", name=op.f("ck_campaigns_stop_failed_percent")),
        sa.CheckConstraint("stop_opted_out_percent BETWEEN 1 AND 100", name=op.f("ck_campaigns_stop_opted_out_percent")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_campaigns_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_campaigns_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
    )
    op.create_index(
        "ix_campaigns_open",
        "campaigns",
        ["status"],
        unique=False,
        postgresql_where=sa.text("status IN ('scheduled', 'sending', 'waiting')"),
    )
    op.create_index(
        "ix_campaigns_user",
        "campaigns",
        ["user_id", "scheduled_at", "id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "lanes",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("wakes", sa.BigInteger(), nullable=False),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("waiting_until_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_source", sa.Text(collation="C"), nullable=False),
        sa.Column("next_send_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("processed", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("current_campaign_id", sa.BigInteger(), nullable=True),
        sa.Column("current_sequence_id", sa.Uuid(), nullable=True),
        sa.Column("last_activity_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("state IN ('asleep', 'running', 'waiting')", name=op.f("ck_lanes_state")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_lanes_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_lanes_user_id")),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_lanes")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index("ix_lanes_awake", "lanes", ["state"], unique=False, postgresql_where=sa.text("state <> 'asleep'"))
    op.create_index(op.f("ix_lanes_user_id"), "lanes", ["user_id"], unique=False)
    op.create_table(
        "lead_imports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_dry_run", sa.Boolean(), nullable=False),
        sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("rows_done", sa.Integer(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_lead_imports_status")
        ),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_lead_imports_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_lead_imports_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lead_imports")),
    )
    op.create_index(op.f("ix_lead_imports_user_id_created_at"), "lead_imports", ["user_id", "created_at"], unique=False)
    op.create_table(
        "leads",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("niche", sa.Text(), nullable=False),
        sa.Column("niches", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("journey", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("target_status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("consent_source", sa.Text(), nullable=True),
        sa.Column("consent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_interaction", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("phone ~ '^[0-9]{6,15}$'", name=op.f("ck_leads_phone")),
        sa.CheckConstraint("target_status IN ('prospect', 'customer')", name=op.f("ck_leads_target_status")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_leads_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_leads_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leads")),
        sa.UniqueConstraint("user_id", "phone", name=op.f("uq_leads_user_id_phone")),
    )
    op.create_index("ix_leads_niches", "leads", ["user_id", "niches"], unique=False, postgresql_using="gin")
    op.create_index(op.f("ix_leads_user_id_device_id_id"), "leads", ["user_id", "device_id", "id"], unique=False)
    op.create_index(op.f("ix_leads_user_id_id"), "leads", ["user_id", "id"], unique=False)
    op.create_index(op.f("ix_leads_user_id_target_status_id"), "leads", ["user_id", "target_status", "id"], unique=False)
    op.create_table(
        "message_analytics",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("delivered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("read", sa.Integer(), server_default="0", nullable=False),
        sa.Column("replied", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_message_analytics_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_message_analytics_user_id")),
        sa.PrimaryKeyConstraint("device_id", "day", name=op.f("pk_message_analytics")),
    )
    op.create_index(op.f("ix_message_analytics_user_id_day"), "message_analytics", ["user_id", "day"], unique=False)
    op.create_table(
        "message_receipts",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("whatsapp_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_message_receipts_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_message_receipts_user_id")),
        sa.PrimaryKeyConstraint("device_id", "whatsapp_id", "kind", name=op.f("pk_message_receipts")),
    )
    op.create_table(
        "sequences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("niche", sa.Text(), nullable=False),
        sa.Column("target_status", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("time_schedule", sa.Time(), nullable=True),
        sa.Column("min_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("max_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("device_strategy", sa.Text(), nullable=False),
        sa.Column("leave_on_reply", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("device_strategy IN ('balanced', 'sticky', 'owner')", name=op.f("ck_sequences_device_strategy")),
        sa.CheckConstraint("status IN ('draft', 'active', 'paused')", name=op.f("ck_sequences_status")),
        sa.CheckConstraint("target_status IN ('prospect', 'customer', 'all')", name=op.f("ck_sequences_target_status")),
        sa.CheckConstraint(
            "min_delay_seconds >= 0 AND max_delay_seconds >= min_delay_seconds", name=op.f("ck_sequences_delays")
        ),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_sequences_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sequences_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequences")),
    )
    op.create_index(op.f("ix_sequences_user_id_created_at"), "sequences", ["user_id", "created_at"], unique=False)
    op.create_table(
        "whatsapp_chats",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_message", sa.Text(), nullable=False),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unread", sa.Integer(), nullable=False),
        sa.Column("is_group", sa.Boolean(), nullable=False),
        sa.Column("is_muted", sa.Boolean(), nullable=False),
        sa.Column("avatar_url", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_whatsapp_chats_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_whatsapp_chats_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_whatsapp_chats")),
        sa.UniqueConstraint("device_id", "chat_id", name=op.f("uq_whatsapp_chats_device_id_chat_id")),
    )
    op.create_index(
        op.f("ix_whatsapp_chats_user_id_device_id_last_message_at"),
        "whatsapp_chats",
        ["user_id", "device_id", "last_message_at"],
        unique=False,
    )
    op.create_table(
        "whatsapp_messages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("is_outgoing", sa.Boolean(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=True),
        sa.Column("media_url", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_whatsapp_messages_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_whatsapp_messages_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_whatsapp_messages")),
        sa.UniqueConstraint(
            "device_id", "chat_id", "message_id", name=op.f("uq_whatsapp_messages_device_id_chat_id_message_id")
        ),
    )
    op.create_index(
        op.f("ix_whatsapp_messages_user_id_device_id_chat_id_sent_at_id"),
        "whatsapp_messages",
        ["user_id", "device_id", "chat_id", "sent_at", "id"],
        unique=False,
    )
    op.create_table(
        "campaign_counts",
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("pending", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("delivered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("read", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unknown", sa.Integer(), server_default="0", nullable=False),
        sa.Column("suppressed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_counts_campaign_id")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_campaign_counts_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_campaign_counts_user_id")),
        sa.PrimaryKeyConstraint("campaign_id", "device_id", name=op.f("pk_campaign_counts")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(op.f("ix_campaign_counts_user_id"), "campaign_counts", ["user_id"], unique=False)
    op.create_table(
        "campaign_retries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("requested_by", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_retries_campaign_id")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_campaign_retries_device_id")),
        sa.ForeignKeyConstraint(["requested_by"], ["users.id"], name=op.f("fk_campaign_retries_requested_by")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_campaign_retries_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_retries")),
    )
    op.create_index(
        "ix_campaign_retries_open",
        "campaign_retries",
        ["campaign_id"],
        unique=False,
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_index(op.f("ix_campaign_retries_user_id"), "campaign_retries", ["user_id"], unique=False)
    op.create_table(
        "sequence_contacts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sequence_id", sa.Uuid(), nullable=False),
        sa.Column("lead_id", sa.BigInteger(), nullable=True),
        sa.Column("contact_phone", sa.Text(), nullable=False),
        sa.Column("contact_name", sa.Text(), nullable=False),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("current_step", sa.Integer(), nullable=False),
        sa.Column("current_day", sa.Integer(), nullable=False),
        sa.Column("day_one_on", sa.Date(), nullable=True),
        sa.Column("shifted_days", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_send_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('active', 'paused', 'completed', 'left', 'removed')", name=op.f("ck_sequence_contacts_status")
        ),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_sequence_contacts_sequence_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sequence_contacts_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_contacts")),
        sa.UniqueConstraint("sequence_id", "contact_phone", name=op.f("uq_sequence_contacts_sequence_id_contact_phone")),
    )
    op.create_index(
        op.f("ix_sequence_contacts_user_id_sequence_id_id"), "sequence_contacts", ["user_id", "sequence_id", "id"], unique=False
    )
    op.create_table(
        "sequence_steps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sequence_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("media_url", sa.Text(), nullable=True),
        sa.Column("caption", sa.Text(), nullable=True),
        sa.Column("send_time", sa.Time(), nullable=True),
        sa.Column("min_delay_seconds", sa.Integer(), nullable=True),
        sa.Column("max_delay_seconds", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "message_type IN ('text', 'image', 'video', 'document')", name=op.f("ck_sequence_steps_message_type")
        ),
        sa.CheckConstraint("day >= 1", name=op.f("ck_sequence_steps_day")),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_sequence_steps_sequence_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sequence_steps_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_steps")),
        sa.UniqueConstraint("sequence_id", "day", name=op.f("uq_sequence_steps_sequence_id_day")),
    )
    op.create_table(
        "suppressions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("campaign_id", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_suppressions_campaign_id")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_suppressions_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_suppressions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressions")),
    )
    op.create_index(op.f("ix_suppressions_user_id_id"), "suppressions", ["user_id", "id"], unique=False)
    op.create_index(
        "uq_suppressions_in_force",
        "suppressions",
        ["user_id", "phone"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "broadcast_messages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=True),
        sa.Column("sequence_id", sa.Uuid(), nullable=True),
        sa.Column("enrollment_id", sa.BigInteger(), nullable=True),
        sa.Column("step_id", sa.Uuid(), nullable=True),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("lead_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.Text(collation="C"), nullable=False),
        sa.Column("recipient_phone", sa.Text(), nullable=False),
        sa.Column("recipient_name", sa.Text(), nullable=False),
        sa.Column("recipient_niche", sa.Text(), nullable=False),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("media_url", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("is_retryable", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'claimed', 'sent', 'delivered', 'read', 'failed', 'unknown', 'suppressed', 'cancelled')",
            name=op.f("ck_broadcast_messages_status"),
        ),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_broadcast_messages_campaign_id")),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_broadcast_messages_device_id")),
        sa.ForeignKeyConstraint(["enrollment_id"], ["sequence_contacts.id"], name=op.f("fk_broadcast_messages_enrollment_id")),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_broadcast_messages_sequence_id")),
        sa.ForeignKeyConstraint(["step_id"], ["sequence_steps.id"], name=op.f("fk_broadcast_messages_step_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_broadcast_messages_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcast_messages")),
        sa.UniqueConstraint("campaign_id", "recipient_phone", name=op.f("uq_broadcast_messages_campaign_id_recipient_phone")),
        postgresql_with={
            "fillfactor": 70,
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_analyze_scale_factor": 0.05,
            "autovacuum_vacuum_insert_scale_factor": 0.05,
        },
    )
    op.create_index(
        "ix_broadcast_messages_campaign", "broadcast_messages", ["campaign_id", "status", "device_id", "id"], unique=False
    )
    op.create_index(
        "ix_broadcast_messages_claimed",
        "broadcast_messages",
        ["device_id"],
        unique=False,
        postgresql_where=sa.text("status = 'claimed'"),
    )
    op.create_index(
        "ix_broadcast_messages_lane",
        "broadcast_messages",
        ["device_id", "source", "scheduled_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_broadcast_messages_recipient", "broadcast_messages", ["user_id", "recipient_phone", "sent_at"], unique=False
    )
    op.create_index(
        "uq_broadcast_messages_step",
        "broadcast_messages",
        ["enrollment_id", "cycle", "step_id"],
        unique=True,
        postgresql_where=sa.text("enrollment_id IS NOT NULL"),
    )
    op.create_table(
        "sequence_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sequence_id", sa.Uuid(), nullable=False),
        sa.Column("enrollment_id", sa.BigInteger(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["enrollment_id"], ["sequence_contacts.id"], name=op.f("fk_sequence_logs_enrollment_id")),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_sequence_logs_sequence_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sequence_logs_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_logs")),
    )
    op.create_index(
        op.f("ix_sequence_logs_user_id_sequence_id_id"), "sequence_logs", ["user_id", "sequence_id", "id"], unique=False
    )
    op.create_table(
        "message_attempts",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("host_id", sa.BigInteger(), nullable=False),
        sa.Column("link_generation", sa.Integer(), nullable=False),
        sa.Column("whatsapp_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("media_url", sa.Text(), nullable=True),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('open', 'sent', 'rejected', 'not_attempted', 'unknown')", name=op.f("ck_message_attempts_outcome")
        ),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_message_attempts_device_id")),
        sa.ForeignKeyConstraint(["message_id"], ["broadcast_messages.id"], name=op.f("fk_message_attempts_message_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_message_attempts_user_id")),
        sa.PrimaryKeyConstraint("message_id", "attempt", name=op.f("pk_message_attempts")),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        op.f("ix_message_attempts_device_id_attempted_at"), "message_attempts", ["device_id", "attempted_at"], unique=False
    )
    op.create_index(
        "ix_message_attempts_whatsapp_id",
        "message_attempts",
        ["device_id", "whatsapp_id"],
        unique=False,
        postgresql_where=sa.text("whatsapp_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_message_attempts_whatsapp_id", table_name="message_attempts", postgresql_where=sa.text("whatsapp_id IS NOT NULL")
    )
    op.drop_index(op.f("ix_message_attempts_device_id_attempted_at"), table_name="message_attempts")
    op.drop_table("message_attempts")
    op.drop_index(op.f("ix_sequence_logs_user_id_sequence_id_id"), table_name="sequence_logs")
    op.drop_table("sequence_logs")
    op.drop_index(
        "uq_broadcast_messages_step", table_name="broadcast_messages", postgresql_where=sa.text("enrollment_id IS NOT NULL")
    )
    op.drop_index("ix_broadcast_messages_recipient", table_name="broadcast_messages")
    op.drop_index("ix_broadcast_messages_lane", table_name="broadcast_messages", postgresql_where=sa.text("status = 'pending'"))
    op.drop_index(
        "ix_broadcast_messages_claimed", table_name="broadcast_messages", postgresql_where=sa.text("status = 'claimed'")
    )
    op.drop_index("ix_broadcast_messages_campaign", table_name="broadcast_messages")
    op.drop_table("broadcast_messages")
    op.drop_index("uq_suppressions_in_force", table_name="suppressions", postgresql_where=sa.text("lifted_at IS NULL"))
    op.drop_index(op.f("ix_suppressions_user_id_id"), table_name="suppressions")
    op.drop_table("suppressions")
    op.drop_table("sequence_steps")
    op.drop_index(op.f("ix_sequence_contacts_user_id_sequence_id_id"), table_name="sequence_contacts")
    op.drop_table("sequence_contacts")
    op.drop_index(op.f("ix_campaign_retries_user_id"), table_name="campaign_retries")
    op.drop_index("ix_campaign_retries_open", table_name="campaign_retries", postgresql_where=sa.text("done_at IS NULL"))
    op.drop_table("campaign_retries")
    op.drop_index(op.f("ix_campaign_counts_user_id"), table_name="campaign_counts")
    op.drop_table("campaign_counts")
    op.drop_index(op.f("ix_whatsapp_messages_user_id_device_id_chat_id_sent_at_id"), table_name="whatsapp_messages")
    op.drop_table("whatsapp_messages")
    op.drop_index(op.f("ix_whatsapp_chats_user_id_device_id_last_message_at"), table_name="whatsapp_chats")
    op.drop_table("whatsapp_chats")
    op.drop_index(op.f("ix_sequences_user_id_created_at"), table_name="sequences")
    op.drop_table("sequences")
    op.drop_table("message_receipts")
    op.drop_index(op.f("ix_message_analytics_user_id_day"), table_name="message_analytics")
    op.drop_table("message_analytics")
    op.drop_index(op.f("ix_leads_user_id_target_status_id"), table_name="leads")
    op.drop_index(op.f("ix_leads_user_id_id"), table_name="leads")
    op.drop_index(op.f("ix_leads_user_id_device_id_id"), table_name="leads")
    op.drop_index("ix_leads_niches", table_name="leads", postgresql_using="gin")
    op.drop_table("leads")
    op.drop_index(op.f("ix_lead_imports_user_id_created_at"), table_name="lead_imports")
    op.drop_table("lead_imports")
    op.drop_index(op.f("ix_lanes_user_id"), table_name="lanes")
    op.drop_index("ix_lanes_awake", table_name="lanes", postgresql_where=sa.text("state <> 'asleep'"))
    op.drop_table("lanes")
    op.drop_index("ix_campaigns_user", table_name="campaigns", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(
        "ix_campaigns_open", table_name="campaigns", postgresql_where=sa.text("status IN ('scheduled', 'sending', 'waiting')")
    )
    op.drop_table("campaigns")
    op.drop_index(op.f("ix_activity_log_user_id_id"), table_name="activity_log")
    op.drop_index(op.f("ix_activity_log_user_id_device_id_id"), table_name="activity_log")
    op.drop_table("activity_log")
    op.drop_index(op.f("ix_user_sessions_user_id"), table_name="user_sessions")
    op.drop_index(op.f("ix_user_sessions_expires_at"), table_name="user_sessions")
    op.drop_table("user_sessions")
    op.drop_index(
        "uq_user_devices_jid", table_name="user_devices", postgresql_where=sa.text("jid IS NOT NULL AND deleted_at IS NULL")
    )
    op.drop_index("ix_user_devices_user", table_name="user_devices", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(
        "ix_user_devices_linked", table_name="user_devices", postgresql_where=sa.text("jid IS NOT NULL AND deleted_at IS NULL")
    )
    op.drop_index("ix_user_devices_host_id", table_name="user_devices", postgresql_where=sa.text("host_id IS NOT NULL"))
    op.drop_table("user_devices")
    op.drop_table("password_resets")
    op.drop_table("media")
    op.drop_index(op.f("ix_audit_log_owner_id_created_at"), table_name="audit_log")
    op.drop_index(op.f("ix_audit_log_created_at"), table_name="audit_log")
    op.drop_table("audit_log")
    op.drop_index(op.f("ix_api_keys_user_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index("uq_users_email", table_name="users")
    op.drop_table("users")
    op.drop_index("ix_hosts_live", table_name="hosts", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_table("hosts")
