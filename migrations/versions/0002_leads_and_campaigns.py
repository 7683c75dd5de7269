"""What leads and campaigns need beyond the main job: stop-loss baselines, incoming messages, confirmations of opt-outs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


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
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["user_devices.id"], name=op.f("fk_incoming_messages_device_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_incoming_messages_user_id")),
        sa.PrimaryKeyConstraint("device_id", "sender", "whatsapp_id", name=op.f("pk_incoming_messages")),
    )
    op.create_index(
        op.f("ix_incoming_messages_received_at"), "incoming_messages", ["received_at"], unique=False, postgresql_using="brin"
    )


def downgrade() -> None:
    op.drop_table("incoming_messages")
    op.drop_column("broadcast_messages", "ignores_opt_out")
    op.drop_column("campaigns", "stop_baseline")
