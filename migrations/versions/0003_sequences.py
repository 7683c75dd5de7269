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
    op.create_index(op.f("ix_leads_user_id_updated_at_id"), "leads", ["user_id", "updated_at", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_leads_user_id_updated_at_id"), table_name="leads")
    op.drop_index(
        "ix_sequence_contacts_unstarted",
        table_name="sequence_contacts",
        postgresql_where=sa.text("workflow_started_at IS NULL"),
    )
    op.drop_index(op.f("ix_sequence_contacts_user_id_contact_phone"), table_name="sequence_contacts")
    op.drop_index(op.f("ix_sequence_contacts_sequence_id_status_next_send_at"), table_name="sequence_contacts")
    for column in ("workflow_started_at", "left_because", "paused_at", "day_one_time"):
        op.drop_column("sequence_contacts", column)
    for column in ("enrolled_until_at", "leave_on_opt_out"):
        op.drop_column("sequences", column)
