/** The checker: the violations that it finds in the histories of clients, operator and upstream. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkHistory } from "../../chaos/judge/checker.ts";
import { historyOf, nsPerMs } from "../../chaos/judge/history.ts";
import {
  arrived,
  carried,
  command,
  ending,
  options,
  received,
  request,
  revocation,
  session,
  violationsOf,
} from "./support.ts";

const permitted = { arrived: 301, sent: 302 };

describe("nothing is permitted after a complete receipt", () => {
  test("a request that began after the receipt and was answered by the upstream is a violation", () => {
    const history = [session(), ...revocation(200), request({ begin: 300, end: 303, ...permitted })];
    assert.deepEqual(violationsOf(history), ["permitted-after-receipt"]);
  });

  test("a request that began before the receipt may be answered if the upstream's answer also left before it", () => {
    const history = [session(), ...revocation(310), request({ begin: 300, end: 303, ...permitted })];
    assert.deepEqual(violationsOf(history), []);
  });

  test("a request that the proxy refused is no violation", () => {
    const history = [session(), ...revocation(200), request({ begin: 300, end: 303 })];
    assert.deepEqual(violationsOf(history), []);
  });

  test("an incomplete receipt promises nothing", () => {
    const intent = { type: "revoke-session", session: "s1" } as const;
    const incomplete = command({ op: "revoke-1", intent, begin: 100, end: 120 });
    assert.deepEqual(violationsOf([session(), ...incomplete, request({ begin: 300, end: 303, ...permitted })]), []);
  });

  test("a request whose client gave up is a violation if it still reached the upstream", () => {
    const abandoned = request({ begin: 300, end: 2_000 }, { outcome: "unknown", status: 0 });
    assert.deepEqual(violationsOf([session(), ...revocation(200), abandoned]), []);
    assert.deepEqual(violationsOf([session(), ...revocation(200), abandoned, arrived(1_500)]), [
      "permitted-after-receipt",
    ]);
  });

  test("the revocation of one session does not affect another", () => {
    const other = request({ begin: 300, end: 303, ...permitted }, { session: "s2" });
    assert.deepEqual(violationsOf([session(), session({ session: "s2" }), ...revocation(200), other]), []);
  });

  test("the revocation of a user cuts the sessions before its position, and no later ones", () => {
    const revoked = command({
      op: "revoke-1",
      intent: { type: "revoke-user", user: "alice" },
      begin: 100,
      end: 120,
      complete: 200,
    });
    const passed = request({ begin: 300, end: 303, ...permitted });
    assert.deepEqual(violationsOf([session({ position: 19 }), ...revoked, passed]), ["permitted-after-receipt"]);
    assert.deepEqual(violationsOf([session({ position: 21 }), ...revoked, passed]), []);
    assert.deepEqual(violationsOf([session({ user: "bob" }), ...revoked, passed]), []);
  });

  test("a request that breaks a promise is reported once, with its distance in time", () => {
    const history = historyOf([session(), ...revocation(200), request({ begin: 300, end: 303, ...permitted })]);
    const [violation, ...others] = checkHistory(history, ending(), options).violations;
    assert.deepEqual(others, []);
    assert.equal(violation?.at, 300 * nsPerMs);
    assert.equal(violation?.about["operation"], "revoke-1");
    assert.match(violation?.what ?? "", /begun 100\.0 ms after the complete receipt of revoke-session/);
  });
});

describe("without a receipt, a revocation holds once every earlier lease has expired", () => {
  const intent = { type: "revoke-session", session: "s1" } as const;
  const acknowledged = command({ op: "revoke-1", intent, begin: 100, end: 120 });
  const late = { begin: 5_121, end: 5_130, arrived: 5_122, sent: 5_123 };

  test("a request that began after that and was answered by the upstream is a violation", () => {
    assert.deepEqual(violationsOf([session(), ...acknowledged, request(late)]), ["permitted-beyond-window"]);
    const before = request({ ...late, begin: 5_119 });
    assert.deepEqual(violationsOf([session(), ...acknowledged, before]), ["carried-beyond-window"]);
    const wider = { windowMsOf: () => 6_000 };
    assert.deepEqual(violationsOf([session(), ...acknowledged, request(late)], ending(), wider), []);
  });

  test("a command whose outcome is unknown promises nothing, however long ago", () => {
    const [first] = acknowledged;
    assert.ok(first?.type === "command");
    const lost = { ...first, outcome: "unknown" as const, link: null };
    assert.deepEqual(
      violationsOf([session(), lost, request({ begin: 9_000, end: 9_003, arrived: 9_001, sent: 9_002 })]),
      [],
    );
  });

  test("a stream carries no byte after that", () => {
    const stream = request({ begin: 50, end: 60, arrived: 52, sent: 53 }, { kind: "websocket", status: 101 });
    assert.deepEqual(violationsOf([session(), ...acknowledged, stream, received(5_100, 5_110)]), []);
    assert.deepEqual(violationsOf([session(), ...acknowledged, stream, received(5_130, 5_131)]), [
      "carried-beyond-window",
    ]);
  });

  test("a removal that was followed by an addition within the window may have been applied together with it", () => {
    const pair = { user: "alice", group: "eng" };
    const removal = command({ op: "revoke-1", intent: { type: "remove-member", ...pair }, begin: 100, end: 120 });
    const addition = command(
      { op: "add-1", intent: { type: "add-member", ...pair }, begin: 4_000, end: 4_005, position: 25 },
      { changed: false },
    );
    const stream = request({ begin: 50, end: 60, arrived: 52, sent: 53 }, { kind: "websocket", route: "eng" });
    assert.deepEqual(violationsOf([session(), ...removal, ...addition, stream, received(6_000, 6_001)]), []);
    assert.deepEqual(violationsOf([session(), ...removal, stream, received(6_000, 6_001)]), ["carried-beyond-window"]);
  });
});

describe("a session ends when it expires", () => {
  const short = session({ expiresAt: 1_000 * nsPerMs });

  test("a request that began more than 100 ms after the expiry is a violation", () => {
    const at = (begin: number): ReturnType<typeof request> =>
      request({ begin, end: begin + 3, arrived: begin + 1, sent: begin + 2 });
    assert.deepEqual(violationsOf([short, at(1_090)]), []);
    assert.deepEqual(violationsOf([short, at(1_110)]), ["permitted-after-expiry"]);
  });

  test("a session's streams end with it", () => {
    const stream = request({ begin: 50, end: 60, arrived: 52, sent: 53 }, { kind: "websocket", status: 101 });
    assert.deepEqual(violationsOf([short, stream, received(1_050, 1_051)]), []);
    assert.deepEqual(violationsOf([short, stream, received(1_150, 1_151)]), ["carried-after-expiry"]);
  });

  test("near its expiry a session may be sent to sign in", () => {
    assert.deepEqual(violationsOf([short, request({ begin: 500, end: 510 }, { status: 401 })]), []);
    assert.deepEqual(
      violationsOf([session({ expiresAt: 9_000 * nsPerMs }), request({ begin: 500, end: 510 }, { status: 401 })]),
      ["told-to-sign-in"],
    );
  });
});

test("a suspension cuts a user off as a revocation of all sessions does", () => {
  const suspended = command({
    op: "revoke-1",
    intent: { type: "suspend-user", user: "alice" },
    begin: 100,
    end: 120,
    complete: 200,
  });
  const passed = request({ begin: 300, end: 303, ...permitted });
  assert.deepEqual(violationsOf([session({ position: 19 }), ...suspended, passed]), ["permitted-after-receipt"]);
  assert.deepEqual(violationsOf([session({ position: 21 }), ...suspended, passed]), []);
  const refused = request({ begin: 150, end: 155 }, { status: 401 });
  assert.deepEqual(violationsOf([session({ position: 19 }), ...suspended, refused]), []);
});

describe("no byte passes after a complete receipt", () => {
  const stream = request({ begin: 50, end: 60, arrived: 52, sent: 53 }, { kind: "websocket", status: 101 });

  test("a frame that the upstream sent after the receipt and that arrived is a violation, reported once per stream", () => {
    const frames = [received(150, 151), received(210, 211), received(220, 221)];
    const verdict = checkHistory(historyOf([session(), ...revocation(200), stream, ...frames]), ending(), options);
    assert.deepEqual(
      verdict.violations.map(({ check, times }) => ({ check, times })),
      [{ check: "carried-after-receipt", times: 2 }],
    );
  });

  test("a frame that was sent before the receipt may arrive within the allowance, and not later", () => {
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, received(199, 900)]), []);
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, received(199, 1_300)]), [
      "carried-after-receipt",
    ]);
  });

  test("a frame that arrived late because its reader was stalled is excused; a frame that was sent late is not", () => {
    const stall = { type: "stall", process: "load", begin: 400 * nsPerMs, end: 1_250 * nsPerMs } as const;
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, received(199, 1_300), stall]), []);
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, received(201, 1_300), stall]), [
      "carried-after-receipt",
    ]);
  });

  test("a stall of the reader excuses its own length and no more", () => {
    const stall = { type: "stall", process: "load", begin: 400 * nsPerMs, end: 500 * nsPerMs } as const;
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, received(199, 1_290), stall]), []);
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, received(199, 1_310), stall]), [
      "carried-after-receipt",
    ]);
  });

  test("bytes that a client sent after the receipt must not reach the upstream", () => {
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, carried(190, 205)]), []);
    assert.deepEqual(violationsOf([session(), ...revocation(200), stream, carried(201, 205)]), [
      "carried-after-receipt",
    ]);
  });

  test("the answer to a request in flight must not arrive either", () => {
    const slow = request({ begin: 150, end: 260, arrived: 152, sent: 250 });
    assert.deepEqual(violationsOf([session(), ...revocation(200), slow]), ["carried-after-receipt"]);
  });

  test("a request in flight that reaches the upstream long after the receipt is a violation", () => {
    const paused = request({ begin: 150, end: 5_000 }, { outcome: "unknown", status: 0 });
    assert.deepEqual(violationsOf([session(), ...revocation(200), paused, arrived(205)]), []);
    assert.deepEqual(violationsOf([session(), ...revocation(200), paused, arrived(4_000)]), ["carried-after-receipt"]);
  });
});

describe("a person removed from a group is denied its route until they are added again", () => {
  const pair = { user: "alice", group: "eng" };
  const removal = command(
    { op: "remove-1", intent: { type: "remove-member", ...pair }, begin: 100, end: 120, complete: 200, position: 20 },
    { commandId: "command-revoke-1" },
  );
  const addition = (begin: number, position: number): ReturnType<typeof command> =>
    command(
      { op: "add-1", intent: { type: "add-member", ...pair }, begin, end: begin + 5, position },
      {
        changed: false,
      },
    );
  const onEng = (times: Parameters<typeof request>[0]): ReturnType<typeof request> => request(times, { route: "eng" });
  const passed = onEng({ begin: 300, end: 303, ...permitted });

  test("a request to the group's route is a violation; a request to another route is not", () => {
    assert.deepEqual(violationsOf([session(), ...removal, passed]), ["permitted-after-receipt"]);
    assert.deepEqual(violationsOf([session(), ...removal, request({ begin: 300, end: 303, ...permitted })]), []);
  });

  test("once an addition has begun, the removal promises nothing", () => {
    assert.deepEqual(violationsOf([session(), ...removal, ...addition(250, 25), passed]), []);
    assert.deepEqual(violationsOf([session(), ...removal, ...addition(350, 25), passed]), ["permitted-after-receipt"]);
  });

  test("an addition of unknown outcome may still happen, whenever it began", () => {
    const [unknown] = addition(50, 0);
    assert.ok(unknown?.type === "command");
    const lost = { ...unknown, outcome: "unknown" as const, link: null };
    assert.deepEqual(violationsOf([session(), lost, ...removal, passed]), []);
  });

  test("an addition that precedes the removal in the log changes nothing", () => {
    assert.deepEqual(violationsOf([session(), ...addition(50, 15), ...removal, passed]), ["permitted-after-receipt"]);
  });

  test("a stream from before the removal must not survive the addition", () => {
    const open = { begin: 50, end: 60, arrived: 52, sent: 53 };
    const stream = { ...onEng(open), kind: "websocket" as const };
    const history = [session(), ...removal, ...addition(250, 25), stream, received(400, 401)];
    assert.deepEqual(violationsOf(history), ["carried-after-receipt"]);
  });

  test("a stream that the proxy admitted after the addition may live, even if it was requested before", () => {
    const stream = { ...onEng({ begin: 150, end: 270, arrived: 260, sent: 261 }), kind: "websocket" as const };
    const history = [session(), ...removal, ...addition(250, 25), stream, received(400, 401)];
    assert.deepEqual(violationsOf(history), []);
  });
});

test("a person who was never in a group is denied its route", () => {
  const noMembers = { isFirstMember: () => false };
  const onEng = request({ begin: 300, end: 303, ...permitted }, { route: "eng" });
  const intent = { type: "add-member", user: "alice", group: "eng" } as const;
  const added = command({ op: "revoke-1", intent, begin: 250, end: 255 });
  assert.deepEqual(violationsOf([session(), onEng], ending(), noMembers), ["permitted-without-right"]);
  assert.deepEqual(violationsOf([session(), ...added, onEng], ending(), noMembers), []);
  assert.deepEqual(violationsOf([session(), onEng]), []);
});

describe("a person with the right is not turned away for the cluster's own reasons", () => {
  const refusal = (status: number, route = "app"): ReturnType<typeof request> =>
    request({ begin: 50, end: 60 }, { status, route });

  test("a live session is never sent to sign in", () => {
    assert.deepEqual(violationsOf([session(), refusal(302)]), ["told-to-sign-in"]);
    assert.deepEqual(violationsOf([session(), refusal(401)]), ["told-to-sign-in"]);
    assert.deepEqual(violationsOf([session(), refusal(503)]), []);
  });

  test("a session whose revocation had begun may be sent to sign in", () => {
    const later = request({ begin: 101, end: 110 }, { status: 302 });
    assert.deepEqual(violationsOf([session(), ...revocation(200), later]), []);
    const user = command({ op: "revoke-1", intent: { type: "revoke-user", user: "alice" }, begin: 100, end: 120 });
    assert.deepEqual(violationsOf([session(), ...user, later]), []);
  });

  test("a revocation of the user that ended before the session began does not count", () => {
    const user = command({ op: "revoke-1", intent: { type: "revoke-user", user: "alice" }, begin: 1, end: 2 });
    const late = session({ begin: 3 * nsPerMs });
    assert.deepEqual(violationsOf([late, ...user, refusal(302)]), ["told-to-sign-in"]);
  });

  test("an initial member whose removal has not begun is not refused", () => {
    assert.deepEqual(violationsOf([session(), refusal(403, "eng")]), ["refused-a-member"]);
    const noMembers = { isFirstMember: () => false };
    assert.deepEqual(violationsOf([session(), refusal(403, "eng")], ending(), noMembers), []);
    const removal = command({
      op: "revoke-1",
      intent: { type: "remove-member", user: "alice", group: "eng" },
      begin: 40,
      end: 45,
    });
    assert.deepEqual(violationsOf([session(), ...removal, refusal(403, "eng")]), []);
  });
});

test("a suspension that a cut-off region accepted by itself may come into force after it was lifted", () => {
  const intent = { type: "suspend-user", user: "alice" } as const;
  const done = command({ op: "revoke-1", intent, begin: 10, end: 20 });
  const [first] = done;
  assert.ok(first?.type === "command");
  const local = { ...first, outcome: "local" as const, link: null, end: first.end - 1 };
  const later = session({ begin: 30 * nsPerMs, position: 25 });
  const refused = request({ begin: 50, end: 60 }, { status: 401 });
  assert.deepEqual(violationsOf([later, ...done, refused]), ["told-to-sign-in"]);
  assert.deepEqual(violationsOf([later, local, ...done, refused]), []);
});

describe("every acknowledged command is in the log", () => {
  const done = (over: Parameters<typeof command>[1] = {}): ReturnType<typeof command> =>
    command({ op: "revoke-1", intent: { type: "revoke-session", session: "s1" }, begin: 100, end: 120 }, over);

  test("a command whose position holds its event is no violation", () => {
    assert.deepEqual(violationsOf([session(), ...done()]), []);
  });

  test("a log that ends before it, another hash, another epoch or another cause is a loss", () => {
    const lost = ["acknowledged-event-lost"];
    assert.deepEqual(violationsOf([...done()], ending({}, { log: [] })), lost);
    assert.deepEqual(violationsOf([...done({ link: { epoch: 1, position: 20, hash: "f".repeat(64) } })]), lost);
    const [first] = done();
    assert.ok(first?.type === "command" && first.link !== null);
    assert.deepEqual(violationsOf([{ ...first, link: { ...first.link, epoch: 2 } }]), lost);
    assert.deepEqual(violationsOf([...done()], ending({ 20: "command-of-another-client" })), lost);
  });

  test("a command that changed nothing may name a position with another command's event", () => {
    assert.deepEqual(violationsOf([...done({ changed: false })], ending({})), []);
  });

  test("a command of unknown outcome may be in the log or not", () => {
    assert.deepEqual(violationsOf([...done({ outcome: "unknown", link: null })], ending({})), []);
    assert.deepEqual(violationsOf([...done({ outcome: "unknown", link: null })]), []);
  });

  test("a command that happened twice, or was answered differently the second time, is a violation", () => {
    const twice = ending({ 12: "command-revoke-1", 20: "command-revoke-1" });
    assert.deepEqual(violationsOf([...done()], twice), ["repeated-command-differs"]);
    const [first] = done();
    assert.ok(first?.type === "command");
    const again = { ...first, end: first.end + 1, link: { epoch: 1, position: 21, hash: "0".repeat(64) } };
    assert.deepEqual(violationsOf([first, again]), ["repeated-command-differs"]);
  });

  test("a command that began after another was acknowledged follows it in the log", () => {
    const early = command({
      op: "a",
      intent: { type: "revoke-session", session: "s2" },
      begin: 10,
      end: 20,
      position: 21,
    });
    const causes = { 20: "command-revoke-1", 21: "command-a" };
    assert.deepEqual(violationsOf([...early, ...done()], ending(causes)), ["order-reversed"]);
    const overlapping = command({
      op: "a",
      intent: { type: "revoke-session", session: "s2" },
      begin: 10,
      end: 101,
      position: 21,
    });
    assert.deepEqual(violationsOf([...overlapping, ...done()], ending(causes)), []);
  });
});

describe("the end of a run", () => {
  test("a healthy cluster is no violation", () => {
    assert.deepEqual(violationsOf([], ending({})), []);
  });

  test("a broken log, a node whose state differs from the leader's, and a missing leader are violations", () => {
    assert.deepEqual(violationsOf([], ending({}, { logProblem: "broken at 7" })), ["log-broken"]);
    const other = { node: "proxy-eu-1", role: "proxy", position: 30, digest: "e" };
    assert.deepEqual(violationsOf([], ending({}, { nodes: [other] })), ["digests-differ"]);
    assert.deepEqual(violationsOf([], ending({}, { nodes: [{ ...other, position: 29, digest: "d" }] })), [
      "digests-differ",
    ]);
    assert.deepEqual(violationsOf([], ending({}, { leader: null })), ["digests-differ"]);
  });

  test("an audit record that is not what was sealed is a violation", () => {
    const records = { seals: 3, verified: 90, unhashed: 0, problems: [] };
    assert.deepEqual(violationsOf([], ending({}, { records })), []);
    const problems = ["altered: proxy-eu-1 abcdef records 7 to 7"];
    assert.deepEqual(violationsOf([], ending({}, { records: { ...records, problems } })), ["audit-unproven"]);
  });

  test("a process that ended by itself is a violation, even if it recovered", () => {
    assert.deepEqual(violationsOf([], ending({}, { crashes: ["proxy-eu-1 ended by itself with 1"] })), [
      "ended-by-itself",
    ]);
  });

  test("a cluster that does not become ready in time is a violation", () => {
    assert.deepEqual(violationsOf([], ending({}, { readyAfterMs: null, notReady: ["proxy-eu-1"] })), [
      "not-ready-in-time",
    ]);
  });
});
