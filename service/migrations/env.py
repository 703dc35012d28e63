"""What Alembic executes to run revisions: on the connection that service.migrations gives it, in its transaction."""

from alembic import context

from service.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, transactional_ddl=True
)
context.run_migrations()
