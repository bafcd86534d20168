/** `postgres` entries of `audit.sinks`: what they accept, and what they refuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../src/config/index.ts";
import { base, goodRoute } from "./support.ts";

const url = "postgres://audit:secret@db.example.com/audit";

function parse(
  sinks: readonly unknown[],
  { more = "", mode = 0o600, strict = false }: Readonly<{ more?: string; mode?: number; strict?: boolean }> = {},
) {
  return parseConfig(
    `${base}audit: {mode: ${strict ? "strict" : "best_effort"}, sinks: ${JSON.stringify(sinks)}}\n${more}${goodRoute}`,
    "c.yaml",
    {
      env: {},
      readFile: (path) =>
        path === "/run/audit" ? { ok: true, text: `${url}\n`, mode } : { ok: false, reason: "no such file" },
    },
  );
}
const problemsIn = (parsed: ReturnType<typeof parse>) => (parsed.ok ? parsed.warnings : parsed.problems);
const problems = (sinks: readonly unknown[]): string =>
  problemsIn(parse(sinks))
    .map(({ key, problem, remedy }) => `${key} ${problem}; ${remedy}`)
    .join("\n");

test("an address, inline or in a file, is enough", () => {
  for (const item of [{ url }, { url_file: "/run/audit" }]) {
    const parsed = parse([{ postgres: true, ...item }]);
    assert.ok(parsed.ok, problems([{ postgres: true, ...item }]));
    assert.deepEqual(parsed.config.audit.postgres, {
      connectionString: url,
      schema: "audit",
      retentionDays: null,
    });
    assert.deepEqual([parsed.config.audit.files, parsed.config.audit.nats], [[], false]);
  }
  const whole = parse([{ file: "a" }, { postgres: true, url, schema: "audit_1", retention_days: 90, format: "json" }]);
  assert.ok(whole.ok);
  assert.deepEqual(whole.config.audit.postgres, { connectionString: url, schema: "audit_1", retentionDays: 90 });
});

test("it is a sink for strict routes", () => {
  const how = { more: "", strict: true };
  assert.ok(parse([{ postgres: true, url }], how).ok);
  assert.ok(!parse([], how).ok);
});

test("what cannot work is refused with its place", () => {
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ postgres: url }, /^audit.sinks\[0\].postgres .*cannot be used here; write - postgres: true, and url_file$/],
    [{ postgres: true }, /^audit.sinks\[0\] has no url_file; name a file with postgres/],
    [{ postgres: true, url: "http://db" }, /^audit.sinks\[0\].url is neither a postgres/],
    [
      { postgres: true, url_file: "/nowhere" },
      /^audit.sinks\[0\].url_file the file \/nowhere cannot be read: no such file/,
    ],
    [{ postgres: true, url, schema: 'a"b' }, /^audit.sinks\[0\].schema .* is not the name of a schema/],
    [{ postgres: true, url, schema: "pg_audit" }, /is not the name of a schema/],
    [
      { postgres: true, url, retention_days: 0 },
      /^audit.sinks\[0\].retention_days 0 is not a number of days; write 1 to 3650/,
    ],
    [{ postgres: true, url, retention_days: "90d" }, /is not a number of days/],
    [{ postgres: true, url, format: "ocsf" }, /^audit.sinks\[0\].format "ocsf" is not a format of this sink/],
    [
      { postgres: true, url, retention_day: 1 },
      /^audit.sinks\[0\].retention_day is not a known key; did you mean retention_days\?/,
    ],
  ];
  for (const [item, message] of wrong) {
    assert.match(problems([item]), message);
    assert.doesNotMatch(problems([item]), /secret@/);
  }
  assert.match(
    problems([
      { postgres: true, url },
      { postgres: true, url },
    ]),
    /names Postgres more than once/,
  );
});

test("a plain connection, a public file, and the address of the log are warned of", () => {
  const warned = (item: object, how: Parameters<typeof parse>[1] = {}): string =>
    problemsIn(parse([{ postgres: true, ...item }], how))
      .map(({ problem }) => problem)
      .join();
  assert.equal(warned({ url }), "");
  assert.match(warned({ url: `${url}?sslmode=disable` }), /turns TLS to Postgres off/);
  assert.equal(warned({ url: "postgres://a@localhost/audit?sslmode=disable" }), "");
  assert.match(warned({ url_file: "/run/audit" }, { mode: 0o644 }), /every user of this machine can read/);
  const more = `databroker_storage_type: postgres\ndatabroker_storage_connection_string: ${url}\n`;
  assert.match(warned({ url }, { more }), /is the address of the log/);
});
