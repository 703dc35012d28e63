"""Uploads belong to a key. Those from before belong to nobody, and stay everybody's."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    op.add_column("gauntlet_uploads", sa.Column("owner", sa.String(64)))
    op.add_column("gauntlet_uploads", sa.Column("shared", sa.Boolean, nullable=False, server_default=sa.true()))
