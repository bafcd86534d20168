/** The audit checker: it finds planted losses, and nothing in what is sound. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type AuditCopy, type AuditLine, type AuditSeen, auditLineOf } from "../../chaos/judge/audit-line.ts";
import { type Entry, nsPerMs, type ProcessEndEntry } from "../../chaos/judge/history.ts";
import type { Check } from "../../chaos/judge/violation.ts";
import { arrived, command, ending, faultOf, request, session, violationsOf } from "./support.ts";

const originMs = 1_764_000_000_000;
const node = "proxy-eu-1";
const boot = "boot-1";

type Fields = Readonly<Record<string, unknown>>;

function line(fields: Fields, storedMs: number | null = null): AuditLine {
  const made = auditLineOf(JSON.stringify({ node, boot, at: originMs + 100, ...fields }), storedMs);
  assert.ok(made, JSON.stringify(fields));
  return made;
}

const permit = (seq: number, id = "r1", over: Fields = {}): Fields => ({
  kind: "decision",
  seq,
  occasion: "request",
  routeId: "app",
  query: `r=${id}`,
  result: "permit",
  status: 200,
  ...over,
});
const closed = (seq: number, id = "r1", over: Fields = {}): Fields =>
  permit(seq, id, { occasion: "closed", status: 101, closed: { cause: "ended" }, ...over });
const gap = (first: number, last: number, over: Fields = {}): Fields => ({
  kind: "gap",
  seq: last,
  first,
  last,
  reason: "killed",
  atLeast: 0,
  fromMs: originMs,
  toMs: originMs + 500,
  ...over,
});

const inFile = (...all: readonly Fields[]): AuditCopy => ({
  sink: "file",
  lines: all.map((fields) => line(fields)),
  malformed: 0,
});
const inStream = (...all: readonly (readonly [number, Fields])[]): AuditCopy => ({
  sink: "JetStream",
  lines: all.map(([storedMs, fields]) => line(fields, originMs + storedMs)),
  malformed: 0,
});

function seen(...copies: readonly AuditCopy[]): AuditSeen {
  return { copies, undrained: [], originMs, clockStepMs: 0 };
}

function found(entries: readonly Entry[], audit: AuditSeen): Check[] {
  return violationsOf([session(), ...entries], ending({}, { audit }));
}

const kill = (atMs = 300): ProcessEndEntry => ({ type: "process-end", at: atMs * nsPerMs, node, how: "killed" });
const passed = (id = "r1", over: Parameters<typeof request>[1] = {}) =>
  request({ begin: 50, end: 55, arrived: 51, sent: 52 }, { id, route: "app", ...over });
const refused = (status: number, over: Parameters<typeof request>[1] = {}) =>
  request({ begin: 50, end: 55 }, { id: "r1", route: "app", status, session: "s-unknown", ...over });

describe("requests", () => {
  test("an answer with its record is sound", () => {
    assert.deepEqual(found([passed()], seen(inFile(permit(1)))), []);
  });

  test("an answer without a record and without a gap is found", () => {
    assert.deepEqual(found([passed("r1"), passed("r2")], seen(inFile(permit(1)))), ["audit-missing"]);
  });

  test("a request that reached the upstream needs its record, whatever the client knows of it", () => {
    const unknown = request({ begin: 50, end: 55 }, { id: "r2", route: "app", outcome: "unknown", status: 0 });
    assert.deepEqual(found([unknown], seen(inFile(permit(1)))), []);
    assert.deepEqual(found([unknown, arrived(52, "r2")], seen(inFile(permit(1)))), ["audit-missing"]);
  });

  test("a declared gap accounts for an answer of its node and time", () => {
    const answers = [passed("r1"), passed("r2"), kill()];
    assert.deepEqual(found(answers, seen(inFile(permit(1), gap(2, 9)))), []);
    assert.deepEqual(found(answers, seen(inFile(permit(1), gap(2, 9, { node: "proxy-us-1" })))), [
      "audit-unexplained",
      "audit-missing",
      "audit-missing",
    ]);
    const later = { fromMs: originMs + 5_000, toMs: originMs + 9_000 };
    assert.deepEqual(found(answers, seen(inFile(permit(1), gap(2, 9, later)))), ["audit-missing"]);
  });

  test("a gap accounts for no more answers than it has numbers, however often it is repeated", () => {
    const answers = ["r1", "r2", "r3", "r4"].map((id) => passed(id));
    assert.deepEqual(found([...answers, kill()], seen(inFile(permit(1), gap(2, 4)))), []);
    assert.deepEqual(found([...answers, kill()], seen(inFile(permit(1), gap(2, 3), gap(2, 3)))), ["audit-missing"]);
  });

  test("gaps are given so that as many answers as possible have one", () => {
    const early = passed("r2");
    const late = request({ begin: 50, end: 8_000, arrived: 51, sent: 52 }, { id: "r3", route: "app" });
    const second = { boot: "boot-2", fromMs: originMs + 5_000, toMs: originMs + 6_000 };
    const copies = inFile(permit(1), gap(2, 2), permit(1, "r9", { boot: "boot-2" }), gap(2, 2, second));
    const ends = [kill(), kill(6_000)];
    assert.deepEqual(found([passed(), late, early, ...ends], seen(copies)), []);
    assert.deepEqual(found([passed(), late, early, passed("r4"), ...ends], seen(copies)), ["audit-missing"]);
  });

  test("a permit of a strict route has a record, even where a gap is declared", () => {
    const strict = passed("r2", { route: "eng" });
    const copies = inFile(permit(1), gap(2, 9));
    assert.deepEqual(found([passed(), strict, kill()], seen(copies)), ["audit-strict-lost"]);
    const refusedThere = refused(503, { id: "r2", route: "eng" });
    assert.deepEqual(found([passed(), refusedThere, kill()], seen(copies)), []);
  });

  for (const [status, result] of [
    [401, "signin"],
    [302, "signin"],
    [403, "deny"],
    [503, "unavailable"],
    [503, "permit"],
    [404, "not_found"],
  ] as const)
    test(`an answer with ${status} may be recorded as ${result}`, () => {
      assert.deepEqual(found([refused(status)], seen(inFile(permit(1, "r1", { result, status })))), []);
    });

  for (const [status, result] of [
    [401, "permit"],
    [403, "permit"],
    [403, "signin"],
    [503, "deny"],
    [404, "permit"],
  ] as const)
    test(`an answer with ${status} that is recorded as ${result} is found`, () => {
      const audit = seen(inFile(permit(1, "r1", { result, status: 200 })));
      assert.deepEqual(found([refused(status)], audit), ["audit-differs"]);
    });

  test("a permit that is recorded as a refusal is found, also beside a later re-decision", () => {
    const denied = permit(1, "r1", { result: "deny", status: 403 });
    const again = permit(2, "r1", { occasion: "redecision" });
    assert.deepEqual(found([passed()], seen(inFile(denied, again))), ["audit-differs"]);
  });

  test("a permit that was cut before its answer is recorded as both", () => {
    const again = permit(2, "r1", { occasion: "redecision", result: "signin", status: 401 });
    assert.deepEqual(found([refused(401)], seen(inFile(permit(1), again))), []);
  });

  test("a strict permit that was refused afterwards has both records", () => {
    const refusal = permit(2, "r1", { routeId: "eng", result: "unavailable", status: 503 });
    const audit = seen(inFile(permit(1, "r1", { routeId: "eng" }), refusal));
    assert.deepEqual(found([refused(503, { route: "eng" })], audit), []);
  });

  test("a record of another node or route for the same request is found", () => {
    const copies = inFile(permit(1), permit(1, "r1", { node: "proxy-us-1", boot: "boot-2" }));
    assert.deepEqual(found([passed()], seen(copies)), ["audit-differs"]);
    assert.deepEqual(found([passed()], seen(inFile(permit(1, "r1", { routeId: "sales" })))), ["audit-differs"]);
  });
});

describe("numbers", () => {
  test("a hole in the numbers of a boot is found in each sink", () => {
    assert.deepEqual(found([], seen(inFile(permit(1), permit(3, "r3")))), ["audit-missing"]);
    const copies = [inFile(permit(1), permit(2, "r2")), inStream([10, permit(2, "r2")])];
    assert.deepEqual(found([], seen(...copies)), ["audit-missing"]);
  });

  test("a sink without the newest records of another is found", () => {
    const copies = [inFile(permit(1), permit(2, "r2")), inStream([10, permit(1)])];
    assert.deepEqual(found([], seen(...copies)), ["audit-missing"]);
  });

  test("JetStream may lack what it had before a fault deleted its stream, and nothing else", () => {
    const file = inFile(permit(1), permit(2, "r2"), permit(3, "r3"));
    const stream = inStream([1_000, permit(1)], [9_000, permit(3, "r3")]);
    const deletion = faultOf(8_000, 8_500, { what: "delete-stream" });
    assert.deepEqual(found([deletion], seen(file, stream)), []);
    const later = faultOf(20_000, 20_500, { what: "delete-stream" });
    assert.deepEqual(found([later], seen(file, stream)), ["audit-missing"]);
    assert.deepEqual(found([faultOf(8_000, 8_500)], seen(file, stream)), ["audit-missing"]);
    assert.deepEqual(found([deletion], seen(inFile(permit(1), permit(3, "r3")), stream)), ["audit-missing"]);
  });

  test("a repetition with the same content is sound, and one with another content is found", () => {
    assert.deepEqual(found([passed()], seen(inFile(permit(1), permit(1)))), []);
    assert.deepEqual(found([passed()], seen(inFile(permit(1), permit(1, "r1", { status: 201 })))), ["audit-differs"]);
    const copies = [inFile(permit(1)), inStream([10, permit(1, "r1", { status: 201 })])];
    assert.deepEqual(found([passed()], seen(...copies)), ["audit-differs"]);
  });

  test("a record that a gap declares lost is found", () => {
    const audit = seen(inFile(permit(1), permit(2, "r2"), gap(2, 9)));
    assert.deepEqual(found([kill()], audit), ["audit-differs"]);
    const full = gap(2, 9, { reason: "spool_full" });
    assert.deepEqual(found([], seen(inFile(permit(1), permit(2, "r2"), full))), ["audit-unexplained"]);
  });

  test("a lost tail needs a kill of its node, and other gaps have no explanation", () => {
    const audit = seen(inFile(permit(1), gap(2, 9)));
    assert.deepEqual(found([kill()], audit), []);
    assert.deepEqual(found([{ ...kill(), how: "drained" }], audit), ["audit-unexplained"]);
    const dropped = seen(inFile(permit(1), gap(2, 2, { reason: "ring_full" })));
    assert.deepEqual(found([kill()], dropped), ["audit-unexplained"]);
  });
});

describe("ends of streams", () => {
  const stream = passed("r1", { kind: "websocket", status: 101 });
  const end: Entry = { type: "closed", id: "r1", at: 1_000 * nsPerMs, code: 1000 };
  const later = (...atMs: readonly number[]): Fields[] =>
    atMs.map((at, i) => permit(10 + i, `later-${i}`, { at: originMs + at }));
  const until = (next: number): Fields[] =>
    Array.from({ length: 9 - next + 1 }, (_, i) => permit(next + i, `other-${i}`));

  test("the end of a WebSocket has a record", () => {
    assert.deepEqual(found([stream, end], seen(inFile(permit(1), closed(2), ...until(3), ...later(5_000, 9_000)))), []);
    const without = seen(inFile(permit(1), ...until(2), ...later(5_000, 9_000)));
    assert.deepEqual(found([stream, end], without), ["audit-missing"]);
  });

  test("it needs none if the process may have ended before it noticed", () => {
    assert.deepEqual(found([stream, end], seen(inFile(permit(1), ...until(2), ...later(2_000)))), []);
    assert.deepEqual(found([stream, end], seen(inFile(permit(1), ...until(2), ...later(9_000, 9_500)))), []);
  });

  test("an end without a cause is found", () => {
    const audit = seen(inFile(permit(1), closed(2, "r1", { closed: {} })));
    assert.deepEqual(found([stream, end], audit), ["audit-differs"]);
  });

  test("a download is a stream if the upstream served it for long", () => {
    const download = passed("r1", { kind: "download" });
    const audit = seen(inFile(permit(1), ...until(2), ...later(30_000, 39_000)));
    const closedLate: Entry = { ...end, at: 20_000 * nsPerMs };
    const left = (atMs: number): Entry => ({ type: "left", id: "r1", at: atMs * nsPerMs });
    assert.deepEqual(found([download, closedLate, left(5_000)], audit), []);
    assert.deepEqual(found([download, closedLate, left(19_000)], audit), ["audit-missing"]);
  });
});

describe("acts of operators", () => {
  const suspend = command({ op: "op-1", intent: { type: "suspend-user", user: "u9" }, begin: 50, end: 60 });
  const act = (over: Fields = {}): Fields => ({
    kind: "operator",
    seq: 1,
    node: "authenticate-eu",
    boot: "boot-a",
    commandId: "command-op-1",
    outcome: "done",
    link: { epoch: 1, position: 20, hash: "h" },
    ...over,
  });
  const without = (checks: readonly Check[]): Check[] => checks.filter((check) => check.startsWith("audit"));

  test("an acknowledged command has a record with its position, on the node that answered", () => {
    assert.deepEqual(without(found(suspend, seen(inFile(act())))), []);
    assert.deepEqual(without(found(suspend, seen(inFile()))), ["audit-missing"]);
    assert.deepEqual(without(found(suspend, seen(inFile(act({ node: "authenticate-us" }))))), ["audit-missing"]);
  });

  test("a record with another outcome or position is found", () => {
    assert.deepEqual(without(found(suspend, seen(inFile(act({ outcome: "refused" }))))), ["audit-differs"]);
    const elsewhere = act({ link: { epoch: 1, position: 21, hash: "h" } });
    assert.deepEqual(without(found(suspend, seen(inFile(elsewhere)))), ["audit-differs"]);
  });
});

test("what waits for a sink at the end is late", () => {
  const audit = { ...seen(inFile()), undrained: ["proxy-eu-1: cardea_audit_pending_records 3"] };
  assert.deepEqual(found([], audit), ["audit-late"]);
});

test("a record of a kind that the judge does not know counts by its number", () => {
  assert.deepEqual(found([], seen(inFile(permit(1), { kind: "later", seq: 2 }, permit(3, "r3")))), []);
});

test("a line that is no record is not read as one", () => {
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    '{"kind":"decision"}',
    '{"kind":"decision","node":"a","boot":"b","at":1,"seq":0}',
  ])
    assert.equal(auditLineOf(text, null), undefined);
});
