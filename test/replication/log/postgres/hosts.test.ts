/** Postgres hosts: parsing of a connection string that names several hosts, and the order in which hosts are tried. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LogRefusedError } from "../../../../src/replication/log/index.ts";
import { HostOrder, parsePostgresHosts } from "../../../../src/replication/log/postgres/hosts.ts";

test("a connection string may name several hosts, with ports or without", () => {
  assert.deepEqual(parsePostgresHosts("postgres://u:p%40w@one:5432,two,[::1]:6000/db?sslmode=verify-full"), [
    { name: "one:5432", connectionString: "postgres://u:p%40w@one:5432/db?sslmode=verify-full" },
    { name: "two", connectionString: "postgres://u:p%40w@two/db?sslmode=verify-full" },
    { name: "[::1]:6000", connectionString: "postgres://u:p%40w@[::1]:6000/db?sslmode=verify-full" },
  ]);
  assert.deepEqual(parsePostgresHosts("postgresql://localhost"), [
    { name: "localhost", connectionString: "postgresql://localhost" },
  ]);
});

test("hosts may be in the parameters, as socket folders are", () => {
  assert.deepEqual(parsePostgresHosts("postgres:///db?host=/run/postgresql,two&port=5433,5434&application_name=x"), [
    {
      name: "/run/postgresql:5433",
      connectionString: "postgres:///db?application_name=x&host=%2Frun%2Fpostgresql&port=5433",
    },
    { name: "two:5434", connectionString: "postgres:///db?application_name=x&host=two&port=5434" },
  ]);
});

test("a malformed URL is refused with an error that quotes nothing of it", () => {
  const many = Array.from({ length: 17 }, (_, i) => `h${i}`).join();
  for (const wrong of [
    "",
    "hunter2",
    "mysql://u:hunter2@h/db",
    "postgres://u:hunter2@/db",
    "postgres://u:hunter2@h:port/db",
    `postgres://u:hunter2@${many}/db`,
  ]) {
    assert.throws(
      () => parsePostgresHosts(wrong),
      (error: Error) => error instanceof LogRefusedError && !`${error.stack}${error.cause}`.includes("hunter2"),
      wrong,
    );
  }
});

test("a libpq connection string is parsed as well, with several hosts and with quotes", () => {
  const [one, two] = parsePostgresHosts(
    "host=one,two port=5432,5433 user=cardea password='a b\\'c' dbname = cardea sslmode=verify-full",
  );
  assert.deepEqual([one?.name, two?.name], ["one:5432", "two:5433"]);
  assert.equal(one?.connectionString, "postgres://cardea:a%20b'c@/cardea?sslmode=verify-full&host=one&port=5432");
  assert.equal(two?.connectionString, "postgres://cardea:a%20b'c@/cardea?sslmode=verify-full&host=two&port=5433");
  assert.deepEqual(parsePostgresHosts("host=/run/postgresql user=u dbname=d"), [
    { name: "/run/postgresql", connectionString: "postgres://u@/d?host=%2Frun%2Fpostgresql" },
  ]);
  const bad = ["host=one password='open", "host=one pass'word=x", "user=u dbname=d", "host=a service=b", "host=a x"];
  for (const text of bad) {
    assert.throws(
      () => parsePostgresHosts(text),
      (error: Error) => error instanceof LogRefusedError && !/open|word/.test(error.message),
      text,
    );
  }
});

test("the last good host is tried first, and a doubtful one last", () => {
  const order = new HostOrder(parsePostgresHosts("postgres://a,b,c/db"));
  const names = () => order.hosts.map((host) => host.name).join("");
  order.right("b");
  assert.equal(names(), "bac");
  assert.ok(order.isFirst("b"));
  order.doubtful("b");
  assert.equal(names(), "acb");
  order.right("unknown");
  assert.equal(names(), "acb");
});
