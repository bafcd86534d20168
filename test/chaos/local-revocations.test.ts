/** What the judge demands of revocations that a cut-off region accepted by itself. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type CommandEntry,
  type Ending,
  type Entry,
  type Intent,
  type LateEntry,
  type LocalReceiptEntry,
  nsPerMs,
} from "../../chaos/judge/history.ts";
import { command, ending, options, request, session, violationsOf } from "./support.ts";

const at = (ms: number): number => ms * nsPerMs;
const revokeSession: Intent = { type: "revoke-session", session: "s1" };
const revokeUser: Intent = { type: "revoke-user", user: "alice" };

/** us accepts a command by itself between 100 and 120 ms. */
function acceptedIn(intent: Intent = revokeSession, over: Partial<CommandEntry> = {}): Entry[] {
  return command(
    { op: "revoke-1", intent, begin: 100, end: 120 },
    { region: "us", outcome: "local", link: null, changed: false, ...over },
  );
}

function localReceipt(end: number, over: Partial<LocalReceiptEntry> = {}): LocalReceiptEntry {
  return {
    type: "local-receipt",
    op: "revoke-1",
    region: "us",
    begin: at(100),
    end: at(end),
    complete: true,
    basis: { epoch: 1, position: 12 },
    nodes: [{ node: "proxy-us-1", status: "applied", reason: "" }],
    problem: "",
    ...over,
  };
}

const passes = (begin: number, node: string) =>
  request({ begin, end: begin + 10, arrived: begin + 2, sent: begin + 3 }, { node });
/** The log has the revocation, at position 20. */
const merged = ending();
/** A log of other events. */
function unmerged(): Ending {
  const log = (merged.log ?? []).map((event) => ({ ...event, cause: null, stream: "session:another" }));
  return { ...merged, log };
}

describe("what a region has accepted by itself passes nowhere in that region", () => {
  test("a request in the region after the complete receipt of the region is a violation", () => {
    const entries = [session(), ...acceptedIn(), localReceipt(200)];
    assert.deepEqual(violationsOf([...entries, passes(300, "proxy-us-1")]), ["permitted-after-receipt"]);
    assert.deepEqual(violationsOf([...entries, passes(150, "proxy-us-1")]), []);
  });

  test("without a receipt, a request after every lease from before is a violation", () => {
    const afterMs = 120 + options.windowMsOf("app") + 10;
    assert.deepEqual(violationsOf([session(), ...acceptedIn(), passes(afterMs, "proxy-us-1")]), [
      "permitted-beyond-window",
    ]);
    assert.deepEqual(violationsOf([session(), ...acceptedIn(), passes(afterMs - 100, "proxy-us-1")]), []);
    const incomplete = localReceipt(200, { complete: false });
    assert.deepEqual(violationsOf([session(), ...acceptedIn(), incomplete, passes(300, "proxy-us-1")]), []);
  });

  test("nothing is demanded of other regions", () => {
    for (const node of ["proxy-eu-1", "proxy-ap-1"])
      assert.deepEqual(violationsOf([session(), ...acceptedIn(), localReceipt(200), passes(30_000, node)]), []);
  });

  test("a command on a user covers the sessions that the region knew, and no later one", () => {
    const late = passes(300, "proxy-us-1");
    const accepted = [...acceptedIn(revokeUser), localReceipt(200)];
    assert.deepEqual(violationsOf([session({ position: 12 }), ...accepted, late]), ["permitted-after-receipt"]);
    assert.deepEqual(violationsOf([session({ position: 13 }), ...accepted, late]), []);
    const unknownBasis = localReceipt(200, { complete: false, basis: null });
    assert.deepEqual(
      violationsOf([session(), ...acceptedIn(revokeUser), unknownBasis, passes(30_000, "proxy-us-1")]),
      [],
    );
  });

  test("bytes that reach a slow reader of the region after the receipt are a violation", () => {
    const read = request({ begin: 50, end: 60, arrived: 55, sent: 56 }, { kind: "download", node: "proxy-us-1" });
    const late: LateEntry = {
      type: "late",
      ...{ id: "r1", op: "revoke-1", region: "us", at: at(210), arrived: 70_000, late: 1 },
    };
    assert.deepEqual(violationsOf([session(), read, ...acceptedIn(), localReceipt(200), late]), [
      "carried-after-receipt",
    ]);
    const later = session({ position: 13 });
    assert.deepEqual(violationsOf([later, read, ...acceptedIn(revokeUser), localReceipt(200), late]), []);
  });

  test("when another region had it done as well, the whole cluster is judged from that answer on", () => {
    const done = command({ op: "revoke-1", intent: revokeSession, begin: 400, end: 420, complete: 500 });
    const entries = [session(), ...acceptedIn(), localReceipt(200), ...done];
    assert.deepEqual(violationsOf([...entries, passes(600, "proxy-eu-1")]), ["permitted-after-receipt"]);
    assert.deepEqual(violationsOf([...entries, passes(300, "proxy-eu-1")]), []);
  });
});

test("a session that a region has revoked by itself may be told to sign in, whatever was answered elsewhere", () => {
  const refused = command(
    { op: "revoke-1", intent: revokeSession, begin: 200, end: 220 },
    { outcome: "refused", link: null },
  );
  const toldToSignIn = request({ begin: 300, end: 310 }, { node: "proxy-us-1", status: 401 });
  assert.deepEqual(violationsOf([session(), ...acceptedIn(), ...refused, toldToSignIn]), []);
  assert.deepEqual(violationsOf([session(), ...refused, toldToSignIn]), ["told-to-sign-in"]);
});

describe("what a region has accepted by itself is in the log at the end", () => {
  test("a log without it is a violation", () => {
    assert.deepEqual(violationsOf([session(), ...acceptedIn()], unmerged()), ["local-revocation-lost"]);
    assert.deepEqual(violationsOf([session(), ...acceptedIn()], merged), []);
  });

  test("so is a log that has it twice", () => {
    const twice = ending({ 20: "command-revoke-1", 25: "command-revoke-1" });
    assert.deepEqual(violationsOf([session(), ...acceptedIn()], twice), ["repeated-command-differs"]);
    const oneRun = ending({ 20: "command-revoke-1", 21: "command-revoke-1" });
    assert.deepEqual(violationsOf([session(), ...acceptedIn()], oneRun), ["repeated-command-differs"]);
    assert.deepEqual(violationsOf([session(), ...acceptedIn(revokeUser)], oneRun), [], "of two sessions");
    const byAnotherId = ending({ 20: "command-revoke-1", 25: "derived-from-its-envelope" });
    assert.deepEqual(violationsOf([session(), ...acceptedIn()], byAnotherId), ["repeated-command-differs"]);
  });

  test("nothing is demanded if something else may have left nothing to record", () => {
    const another = command(
      { op: "revoke-2", intent: revokeUser, begin: 90, end: 4_000 },
      { outcome: "unknown", link: null },
    );
    assert.deepEqual(violationsOf([session(), ...acceptedIn(), ...another], unmerged()), []);
    assert.deepEqual(violationsOf([session({ expiresAt: at(60_000) }), ...acceptedIn()], unmerged()), []);
    const byItself = { ...unmerged(), log: merged.log?.map((event) => ({ ...event, cause: null })) ?? null };
    assert.deepEqual(violationsOf([session(), ...acceptedIn()], byItself), []);
  });

  test("a suspension is demanded whether the person had sessions or not", () => {
    const suspended = acceptedIn({ type: "suspend-user", user: "bob" });
    assert.deepEqual(violationsOf([session(), ...suspended], unmerged()), ["local-revocation-lost"]);
    assert.deepEqual(violationsOf([session(), ...suspended], merged), []);
  });

  test("a revocation of all sessions is demanded if the region knew one", () => {
    const accepted = [...acceptedIn(revokeUser), localReceipt(200)];
    assert.deepEqual(violationsOf([session({ position: 12 }), ...accepted], unmerged()), ["local-revocation-lost"]);
    assert.deepEqual(violationsOf([session({ position: 13 }), ...accepted], unmerged()), []);
  });
});
