-- At the first start: a role that owns one database, and may read statistics. The brokers make and migrate their tables.
\set password `cat /run/secrets/postgres_password`
CREATE ROLE cardea LOGIN PASSWORD :'password';
-- How far each synchronous standby has flushed the log: without it every receipt says asynchronous.
GRANT pg_read_all_stats TO cardea;
CREATE DATABASE cardea OWNER cardea;
REVOKE ALL ON DATABASE cardea FROM PUBLIC;
