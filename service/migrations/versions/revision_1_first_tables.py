"""The tables of the releases that had no revisions, which made each when it was first needed: some may be there."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make those that are missing."""
    op.create_table(
        "gauntlet_executors",
        sa.Column("executor", sa.Text, primary_key=True),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "gauntlet_usage",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("reports", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "gauntlet_blobs",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "gauntlet_uploads",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_gauntlet_uploads_sha256", "gauntlet_uploads", ["sha256"], if_not_exists=True)
