"""Events count what people have corrected in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; nothing of what is there was counted."""
    corrections = sa.Column("corrections", sa.Integer(), nullable=False, server_default="0")
    op.add_column("events", corrections)
