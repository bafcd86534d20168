/** Rejoin: the commands that bring an old primary back as a standby. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { rejoinOf } from "../../../../src/replication/log/postgres/rejoin.ts";

const rejoin = (query: string) =>
  rejoinOf({
    ...{ host: "pg.east:5432", name: "pg_east", folder: "/data" },
    primary: { name: "pg.us:5432", connectionString: `postgres://admin@pg.us:5432/cardea${query}` },
  });

test("the commands connect to the new primary under the name of the old one", () => {
  const text = rejoin("");
  assert.match(
    text,
    /pg_rewind -D \/data -R --source-server='host=pg\.us port=5432 user=admin dbname=postgres application_name=pg_east'/,
  );
  assert.match(
    text,
    /psql -d 'host=pg\.us port=5432 user=admin dbname=postgres' -c checkpoint\n {4}pg_rewind/,
    "before Postgres 16, pg_rewind needs a checkpoint since the promotion",
  );
  assert.match(text, /pg_basebackup .* -R -d 'host=pg\.us port=5432 user=admin application_name=pg_east'/);
  assert.doesNotMatch(text, /ssl|certificates/);
});

test("the commands, and so the standby, protect the connection as the connection string says", () => {
  const text = rejoin("?sslmode=verify-full&sslrootcert=%2Fetc%2Four%20ca.pem");
  const tls = "user=admin sslmode=verify-full sslrootcert='\\''/etc/our ca.pem'\\''";
  assert.equal(text.split(tls).length, 4, text);
  assert.match(text, /in PGPASSWORD and the certificates of \/etc\/our ca\.pem in that file:/);
  assert.match(rejoin("?sslmode=require"), /user=admin sslmode=require /);
});

test("what the driver does by itself is written out for libpq", () => {
  assert.match(rejoin("?sslrootcert=/ca.pem"), /user=admin sslmode=verify-full sslrootcert=\/ca\.pem /);
  assert.match(rejoin("?sslmode=no-verify"), /user=admin sslmode=require /);
});
