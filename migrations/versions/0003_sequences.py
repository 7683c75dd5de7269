"""What sequences need to run: where a contact's walk began, who has to be started, which leads are new to a sequence."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("sequences", sa.Column("leave_on_opt_out", sa.Boolean(), server_default="true", nullable=False))
    op.add_column("sequences", sa.Column("enrolled_until_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sequence_contacts", sa.Column("day_one_time", sa.Time(), nullable=True))
    op.add_column("sequence_contacts", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sequence_contacts", sa.Column("left_because", sa.Text(), nullable=True))
    op.add_column("sequence_contacts", sa.Column("workflow_started_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        op.f("ix_sequence_contacts_sequence_id_status_next_send_at"),
        "sequence_contacts",
        ["sequence_id", "status", "next_send_at"],
    )
    op.create_index(op.f("ix_sequence_contacts_user_id_contact_phone"), "sequence_contacts", ["user_id", "contact_phone"])
    op.create_index(
        "ix_sequence_contacts_unstarted",
        "sequence_contacts",
        ["sequence_id", "id"],
        postgresql_where=sa.text("workflow_started_at IS NULL"),
    )
    op.add_column("sequences", sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sequence_steps", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sequence_contacts", sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sequence_contacts", sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_sequence_contacts_wanted",
        "sequence_contacts",
        ["sequence_id", "id"],
        postgresql_where=sa.text("wanted_at IS NOT NULL"),
    )
    op.create_index(
        "uq_sequence_contacts_lead",
        "sequence_contacts",
        ["sequence_id", "lead_id"],
        unique=True,
        postgresql_where=sa.text("lead_id IS NOT NULL"),
    )
    op.create_index(
        "ix_broadcast_messages_sequence",
        "broadcast_messages",
        ["sequence_id", "status", "id"],
        postgresql_include=["step_id"],
        postgresql_where=sa.text("sequence_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_sequence_logs_enrollment_id_id"), "sequence_logs", ["enrollment_id", "id"])
    op.create_table(
        "sequence_retries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sequence_id", sa.Uuid(), nullable=False),
        sa.Column("enrollment_id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_sequence_retries_sequence_id")),
        sa.ForeignKeyConstraint(["enrollment_id"], ["sequence_contacts.id"], name=op.f("fk_sequence_retries_enrollment_id")),
        sa.ForeignKeyConstraint(["message_id"], ["broadcast_messages.id"], name=op.f("fk_sequence_retries_message_id")),
        sa.ForeignKeyConstraint(["requested_by"], ["users.id"], name=op.f("fk_sequence_retries_requested_by")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sequence_retries_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_retries")),
    )
    for name, columns, unique in (
        ("uq_sequence_retries_open", ["message_id"], True),
        ("ix_sequence_retries_open", ["sequence_id", "id"], False),
    ):
        op.create_index(name, "sequence_retries", columns, unique=unique, postgresql_where=sa.text("done_at IS NULL"))
    op.create_index(op.f("ix_leads_user_id_updated_at_id"), "leads", ["user_id", "updated_at", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_leads_user_id_updated_at_id"), table_name="leads")
    op.drop_table("sequence_retries")
    op.drop_index(op.f("ix_sequence_logs_enrollment_id_id"), table_name="sequence_logs")
    op.drop_index(
        "ix_broadcast_messages_sequence",
        table_name="broadcast_messages",
        postgresql_where=sa.text("sequence_id IS NOT NULL"),
        postgresql_include=["step_id"],
    )
    op.drop_index("uq_sequence_contacts_lead", table_name="sequence_contacts", postgresql_where=sa.text("lead_id IS NOT NULL"))
    op.drop_index(
        "ix_sequence_contacts_wanted", table_name="sequence_contacts", postgresql_where=sa.text("wanted_at IS NOT NULL")
    )
    op.drop_column("sequence_steps", "deleted_at")
    op.drop_index(
        "ix_sequence_contacts_unstarted",
        table_name="sequence_contacts",
        postgresql_where=sa.text("workflow_started_at IS NULL"),
    )
    op.drop_index(op.f("ix_sequence_contacts_user_id_contact_phone"), table_name="sequence_contacts")
    op.drop_index(op.f("ix_sequence_contacts_sequence_id_status_next_send_at"), table_name="sequence_contacts")
    for column in ("wanted_at", "resumed_at", "workflow_started_at", "left_because", "paused_at", "day_one_time"):
        op.drop_column("sequence_contacts", column)
    for column in ("resumed_at", "enrolled_until_at", "leave_on_opt_out"):
        op.drop_column("sequences", column)
