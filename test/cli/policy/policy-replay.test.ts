/** `cardea policy replay`: which users gain and lose access, what cannot be replayed, and the exit codes. */
import assert from "node:assert/strict";
import { utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { TemporaryFolder } from "../../support/child.ts";
import { type CommandOutput, run } from "../support.ts";

const folder = new TemporaryFolder("policy-replay");
after(() => folder[Symbol.dispose]());
let files = 0;
function write(content: string | object): string {
  const path = join(folder.path, `file-${files++}`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 });
  return path;
}

const at = Date.now() - 60_000;
const recorded = {
  ...{ kind: "decision", seq: 1, node: "n", boot: "b", region: "r", at, occasion: "request", requestId: "req-1" },
  ...{ routeId: "wiki", method: "GET", host: "wiki.example.com", path: "/", ip: "192.0.2.1", status: 200, reasons: [] },
  ...{ sessionId: "s-ann", userId: "u-ann", result: "permit", configHash: "c", overdueMs: null },
};
const anonymous = { sessionId: null, userId: null };

const base = {
  authenticate_service_url: "https://auth.example.com",
  insecure_server: true,
  idp_provider: "oidc",
  ...{ idp_provider_url: "https://idp.example.com", idp_client_id: "id" },
  data_dir: join(folder.path, "data"),
};

type Parts = Partial<Record<keyof typeof recorded, unknown>>;
function replay(route: object, records: readonly (Parts | string)[], ...args: string[]): Promise<CommandOutput> {
  const sink = write(
    records.map((r, n) => (typeof r === "string" ? r : JSON.stringify({ ...recorded, seq: n + 1, ...r }))).join("\n"),
  );
  const config = write({
    ...base,
    audit: { sinks: [{ file: sink }] },
    routes: [{ id: "wiki", from: "https://wiki.example.com", to: "http://127.0.0.1:9", ...route }],
  });
  return run(["policy", "replay", "-c", config, ...args]);
}
const signedIn = { allow_any_authenticated_user: true };
const policy = (...rules: object[]) => ({ policy: rules });

test("equal results exit 0; records are read from the audit file of the configuration", async () => {
  const { code, out, err } = await replay(signedIn, [{}, { ...anonymous, result: "signin", status: 302 }]);
  assert.equal(code, 0, err);
  assert.equal(out, "2 decisions replayed, 0 differences\n");
});

test("gains and losses are listed by route and user, and exit 1", async () => {
  const rules = policy({ allow: { and: [{ authenticated_user: true }, { http_method: { is: "GET" } }] } });
  const records = [{ method: "POST" }, { method: "POST" }, { userId: "u-bob", result: "deny", status: 403 }, {}];
  const { code, out } = await replay(rules, records, "--json");
  assert.equal(code, 1);
  const output = JSON.parse(out) as {
    replayed: number;
    differences: Record<string, unknown>[];
    notReplayed: unknown[];
  };
  assert.equal(output.replayed, 4);
  assert.deepEqual(
    output.differences.map(({ route, person, change, count }) => [route, person, change, count]),
    [
      ["wiki", "u-bob", "gains", 1],
      ["wiki", "u-ann", "loses", 2],
    ],
  );
  assert.deepEqual(output.notReplayed, []);
  const text = await replay(rules, records);
  assert.match(
    text.out,
    /^route wiki\n {2}gains {2}u-bob {2}1 ×.*\n {2}loses {2}u-ann {2}2 ×, first POST wiki\.example/,
  );
});

test("a route without an id is named by its name, and JSON has the id of the records", async () => {
  const route = {
    id: undefined,
    name: "Wiki",
    allowed_users: ["other"],
    policy: { deny: { or: [{ accept: true }] } },
  };
  assert.match((await replay(route, [{}])).out, /^route Wiki\n {2}loses {2}u-ann/);
  const { out } = await replay(route, [{}], "--json");
  assert.match((JSON.parse(out) as { differences: { route: string }[] }).differences[0]?.route ?? "", /^[0-9a-f]{32}$/);
});

test("a removed route loses access, and a newly public route gains it", async () => {
  const removed = await replay({ from: "https://other.example.com" }, [{}]);
  assert.equal(removed.code, 1);
  assert.match(removed.out, /loses {2}u-ann.*\[route-not-found\]/);
  const open = await replay({ allow_public_unauthenticated_access: true }, [
    { ...anonymous, result: "signin", status: 302 },
  ]);
  assert.match(open.out, /gains {2}not signed in/);
});

test("a path whose parameters hide another route or rule is refused, as in the proxy", async () => {
  const rules = policy({
    allow: { and: [{ accept: true }] },
    deny: { or: [{ http_path: { starts_with: "/private/" } }] },
  });
  const paths = ["/private;x/y", "/private%3Bx/y", "/x;jsessionid=1", "/.pomerium;a/sign_out"];
  const { code, out } = await replay(
    rules,
    paths.map((path) => ({ path })),
    "--json",
  );
  assert.equal(code, 1);
  const { replayed, differences } = JSON.parse(out) as { replayed: number; differences: Record<string, unknown>[] };
  assert.equal(replayed, paths.length);
  assert.deepEqual(
    differences.map(({ change, count }) => [change, count]),
    [
      ["loses", 2],
      ["loses", 1],
    ],
    out,
  );
  assert.match((await replay(rules, [{ path: paths[0] }])).out, /loses {2}u-ann.*\[path-parameters\]/);
});

test("facts that a record lacks are never guessed, and are ignored if they make no difference", async () => {
  const byMail = policy({ allow: { or: [{ email: "ann@example.com" }] }, deny: { or: [{ http_path: "/secret" }] } });
  const { code, out } = await replay(byMail, [{}, { path: "/secret" }]);
  assert.equal(code, 1, "the denied path is denied to every user");
  assert.match(out, /loses {2}u-ann {2}1 ×, first GET wiki\.example\.com\/secret/);
  assert.match(
    out,
    /1 could not be replayed:\n {2}1 × {2}it depends on facts that the record does not contain: email\n/,
  );
  for (const criterion of [{ "claim/dept": "eng" }, { device: { is: "any" } }, { cors_preflight: true }]) {
    const rules = policy({ allow: { or: [{ authenticated_user: true }] }, deny: { not: [criterion] } });
    const output = await replay(rules, [{ method: "OPTIONS" }]);
    assert.equal(output.code, 0, output.err);
    assert.match(output.out, /^0 decisions replayed, 0 differences\n1 could not/, output.err);
  }
});

test("--people supplies e-mail addresses and groups in the format of `users list`", async () => {
  const ann = { id: "u-ann", subject: "ann-1", email: "ann@example.com", name: "Ann", groups: ["eng"] };
  const people = write([ann, { ...ann, id: "u-bob", email: "bob@example.com", groups: [] }]);
  const rules = policy({ allow: { and: [{ groups: "eng" }, { domain: "example.com" }] } });
  const { code, out } = await replay(rules, [{}, { userId: "u-bob" }, { userId: "u-eve" }], "--people", people);
  assert.equal(code, 1);
  assert.match(out, /^route wiki\n {2}loses {2}u-bob [^\n]*\n2 decisions replayed, 1 differences\n1 could not/);
});

test("decisions not made by policy, gaps and invalid lines are counted with their reason", async () => {
  const gap = JSON.stringify({ kind: "gap", seq: 9, first: 5, last: 9 });
  const { code, out } = await replay(signedIn, [
    ...[{}, { result: "unavailable", status: 503 }, { result: "signin", status: 401 }, gap, '{"kind":"dec', "{}"],
  ]);
  assert.equal(code, 0);
  for (const reason of [
    "policy did not decide it: unavailable",
    "the session had ended",
    "a gap in the file",
    "2 × {2}the line is not",
  ])
    assert.match(out, new RegExp(reason));
});

test("rotated files are read too, compressed or not, and duplicate records count once", async () => {
  const lines = (from: number, count: number): string =>
    Array.from({ length: count }, (_, n) => `${JSON.stringify({ ...recorded, seq: from + n })}\n`).join("");
  const live = join(folder.path, "kept.jsonl");
  writeFileSync(`${live}.2`, lines(1, 2));
  writeFileSync(`${live}.1`, lines(2, 3)); // repeats the second record of `.2`, as after a lost acknowledgement
  writeFileSync(join(folder.path, "kept-20261126.jsonl.gz"), gzipSync(lines(5, 4)));
  writeFileSync(live, lines(9, 1));
  writeFileSync(`${live}.lock`, "");
  const long = new Date(Date.now() - 10 * 86_400_000);
  writeFileSync(`${live}.9`, lines(100, 5));
  utimesSync(`${live}.9`, long, long); // older than the period to replay
  const config = write({
    ...base,
    audit: { sinks: [{ file: live }] },
    routes: [{ id: "wiki", from: "https://wiki.example.com", to: "http://127.0.0.1:9", ...signedIn }],
  });
  const { code, out, err } = await run(["policy", "replay", "-c", config]);
  assert.equal(code, 0, err);
  assert.equal(out, "9 decisions replayed, 0 differences\n");
  assert.equal((await run(["policy", "replay", "-c", config, "--kept", "nats"])).code, 2);
});

test("--since limits how far back records are read; wrong usage and an invalid configuration exit 2", async () => {
  const old = { at: Date.now() - 3 * 86_400_000, method: "POST" };
  const rules = policy({ allow: { and: [{ authenticated_user: true }, { http_method: { is: "GET" } }] } });
  assert.equal((await replay(rules, [old])).code, 0);
  assert.equal((await replay(rules, [old], "--since", "4d")).code, 1);
  assert.equal((await replay(rules, [old], "--since", "soon")).code, 2);
  assert.equal((await replay(rules, [old], "--input", join(folder.path, "none"))).code, 2);
  assert.equal((await replay(policy({ allow: { or: [{ emial: "x" }] } }), [old])).code, 2);
  assert.equal((await run(["policy", "replay"])).code, 2);
});
