-- At the first start: a role that owns one database and can do nothing else. The brokers make and migrate their tables.
\set password `cat /run/secrets/postgres_password`
CREATE ROLE cardea LOGIN PASSWORD :'password';
CREATE DATABASE cardea OWNER cardea;
REVOKE ALL ON DATABASE cardea FROM PUBLIC;
