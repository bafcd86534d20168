/** The monitors of local revocations: for each promise a history that keeps it and a history that breaks it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, type Invariant } from "../../../../chaos/sim/monitors/index.ts";
import type { RevocationView } from "../../../../chaos/sim/revocation-facts.ts";
import type { CommandId, SessionId, UserId } from "../../../../src/events/index.ts";
import { History } from "./history.ts";

const own = { node: "node-1", boot: "boot-1" };
const view: RevocationView = {
  ...{ key: "t1", commandId: "c1" as CommandId, mergeIds: ["c1" as CommandId, "h1" as CommandId], region: "west" },
  ...{ sessions: ["s1" as SessionId], suspended: null },
};
const suspension: RevocationView = { ...view, sessions: [], suspended: "ada" as UserId };
const suspended = { type: "UserSuspended", userId: "ada" as UserId, reason: "left" } as const;
const restored = { type: "UserRestored", userId: "ada" as UserId } as const;
const revoked = (sessionId: string) =>
  ({ type: "SessionRevoked", sessionId: sessionId as SessionId, userId: "ada" as UserId, reason: "operator" }) as const;
const broker = { role: "broker", boot: "boot-r", lessee: "broker", region: "west", build: "1", unknownTypes: [] };

function isKept(history: History): void {
  assert.deepEqual(history.monitorResult.violations.map(describe), []);
}
function isBroken(history: History, invariant: Invariant, what: RegExp): void {
  const texts = history.monitorResult.violations.filter((each) => each.invariant === invariant).map(describe);
  assert.ok(texts.length > 0, `nothing found of ${invariant}; found: ${history.found.join(", ")}`);
  assert.match(texts.join("\n"), what);
}

/** A region with two brokers, which has accepted a revocation by itself. */
function accepted(revocation: RevocationView = view): History {
  const history = new History().begin({ region: "west" });
  for (const process of ["region-1", "region-2"]) history.tell("started", { process, ...broker, node: process });
  return stored(stored(history, "region-1", revocation), "region-2", revocation).tell("local-answered", {
    ...{ process: "region-1", commandId: "c1", answer: "local", revocation },
  });
}
function stored(history: History, process: string, revocation: RevocationView = view): History {
  const place = process === "node-1" ? null : { store: "a", seq: 1 };
  return history.tell("revocation-stored", { process, revocation, place });
}
function receipt(history: History, status: "applied" | "fenced", given: object = {}): History {
  const nodes = [{ ...own, status }];
  return history.tell("local-receipt-answered", { process: "region-1", key: "t1", complete: true, nodes, ...given });
}
function enforced(history: History): History {
  return history.tell("revocation-enforced", { ...own, key: "t1" });
}

test("local is answered once the disk of every broker of the region has the revocation", () => {
  isKept(accepted());
  const history = new History().begin({ region: "west" });
  for (const process of ["region-1", "region-2"]) history.tell("started", { process, ...broker, node: process });
  stored(history, "region-1").tell("local-answered", {
    ...{ process: "region-1", commandId: "c1", answer: "local", revocation: view },
  });
  isBroken(history, "local-stored", /not on the disk of region-2/);
});

test("after a complete local receipt the region lets nothing pass that it denies, until the log permits it past the merge", () => {
  isKept(receipt(enforced(accepted()), "applied").later(5).request().decide({ verdict: "deny", reason: "denied" }));
  isBroken(
    receipt(enforced(accepted()), "applied").later(5).permit(),
    "local-receipt-true",
    /lets session s1 pass 0\.00\d s/,
  );
  const open = receipt(enforced(accepted().permit()), "applied").later(5).carry();
  isBroken(open, "local-receipt-true", /lets session s1 pass/);
  const before = accepted(suspension).append(suspended, "c9").append(restored, "c8");
  isBroken(
    receipt(enforced(before), "applied").apply().later(5).permit(),
    "local-receipt-true",
    /lets session s1 pass/,
  );
  const lifted = receipt(enforced(accepted(suspension)), "applied").append(suspended, "c1");
  isKept(lifted.append(restored, "c8").apply().create("s2").apply().permit({ session: "s2" }));
});

test("a local receipt whose statements are false is found", () => {
  isKept(receipt(enforced(accepted()), "applied"));
  isBroken(receipt(accepted(), "applied"), "local-status-true", /says that node-1 enforces t1, and it does not/);
  isBroken(receipt(accepted().later(14_000), "fenced"), "local-status-true", /may decide for another/);
  isKept(receipt(accepted().later(15_400), "fenced"));
  const tightened = accepted()
    .later(14_000)
    .tell("age-mark", { process: "broker-1", mark: "on the disk", how: "kept" })
    .renew()
    .beat()
    .grant({ agedMs: 0 })
    .take({ tightenedTo: { store: "a", seq: 1 }, agedMs: 0 })
    .later(2_000);
  isKept(receipt(tightened, "fenced"));
  const elsewhere = enforced(accepted()).tell("started", {
    ...broker,
    process: "node-9",
    ...own,
    role: "node",
    lessee: "proxy",
    region: "us",
  });
  const nodes = [{ node: "node-9", boot: "boot-1", status: "applied" }];
  isBroken(receipt(elsewhere, "applied", { nodes }), "local-scope", /names node-9 of us/);
});

test("a lease by age that waits for a local revocation counts once the node holds it, or the log has it", () => {
  const tightened = (): History =>
    accepted()
      .later(30_000)
      .tell("age-mark", { process: "region-1", mark: "on the disk", how: "kept" })
      .renew()
      .take({ by: "region-1", tightenedTo: { store: "a", seq: 1 } });
  isBroken(tightened().later(5).permit({ session: "s2" }), "lease-tightened", /which never reached it/);
  const held = tightened().tell("revocation-arrived", { ...own, key: "t1" });
  assert.ok(!held.later(5).permit({ session: "s2" }).found.includes("lease-tightened"));
  const merged = tightened().append(revoked("s1"), "c1");
  assert.ok(!merged.later(5).permit({ session: "s2" }).found.includes("lease-tightened"));
});

test("a broker that holds a revocation passes a lease of the leader on only to a node that enforces it", () => {
  const passed = (history: History): History =>
    history.tell("grant-passed", { process: "region-1", ...own, nonce: 9, head: history.head });
  isKept(passed(enforced(accepted())));
  isBroken(passed(accepted()), "renew-withheld", /on to node-1, which does not enforce the local revocation t1/);
  isKept(passed(accepted().append(revoked("s1"), "c1")));
});

test("a revocation leaves a disk only once the log denies what it denies", () => {
  const dropped = { process: "region-1", key: "t1" };
  isBroken(accepted().tell("revocation-dropped", dropped), "local-kept", /drops .* which does not have it/);
  const unseen = (): History => accepted().append(revoked("s1"), "c1");
  isBroken(unseen().tell("revocation-dropped", dropped), "local-kept", /which does not have it/);
  const seen = { process: "node-1", key: "t1" };
  isKept(unseen().apply().tell("revocation-dropped", seen));
  const before = accepted(suspension).append(suspended, "c9").apply();
  const answered = { process: "region-1", key: "t1", link: before.head };
  isKept(before.tell("merge-answered", answered).tell("revocation-dropped", seen));
  const untrue = accepted(suspension);
  untrue.tell("merge-answered", { ...answered, link: untrue.head }).tell("revocation-dropped", seen);
  isBroken(untrue, "local-kept", /which does not have it/);
  const another = accepted().append(revoked("s5"), "c1");
  isBroken(another.apply().tell("revocation-dropped", seen), "local-kept", /the log permits s1/);
});

test("a revocation is recorded once, under all of its ids together", () => {
  isKept(accepted(suspension).append(suspended, "c1"));
  isBroken(accepted(suspension).append(suspended, "c1").append(suspended, "h1"), "merged-once", /is recorded at/);
});

test("a revocation that a disk holds is eventually in the log, and then leaves the disks of brokers", () => {
  const late = (history: History): History => history.tell("faults-over", { process: "operator" }).later(20_000).over();
  isBroken(late(accepted()), "local-merged", /is not in the log at the end, and region-1, region-2 hold it/);
  const merged = accepted().append(revoked("s1"), "c1");
  isBroken(late(merged), "local-merged", /region-1, region-2 still hold/);
  const lost = accepted().tell("disk-replaced", { process: "region-1" }).tell("disk-replaced", { process: "region-2" });
  assert.ok(!late(lost).found.includes("local-merged"), "no disk holds it");
});
