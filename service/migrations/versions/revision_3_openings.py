"""How models that are being opened stand. The files of uploads leave ``gauntlet_blobs`` when the service starts."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.create_table(
        "gauntlet_openings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("opener", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("shared", sa.Boolean, nullable=False, server_default=sa.true()),
    )
