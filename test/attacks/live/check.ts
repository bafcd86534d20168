/** Live-cut checks: which streams a change of rights must close, for any number of streams. */
import assert from "node:assert/strict";
import { groupChanged, sessionRevoked } from "../../proxy/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Company, startCompany, streamsOf } from "./company.ts";
import { type Kind, kinds, type StreamSpec, type StreamState } from "./protocol.ts";

const bounds = { withinMs: 120_000, everyMs: 100 };
const outOfGroup = 37;
const revoked = 5;

/** How a caller sees a stream end, by cut reason and protocol. */
const endings: Readonly<
  Record<"not-permitted" | "session-ended" | "lifetime" | "stale", Readonly<Record<Kind, RegExp>>>
> = {
  "not-permitted": {
    sse: /^ECONNRESET$|^closed$|^end$/,
    websocket: /^close 4403$/,
    grpc: /^grpc 7$/,
    tcp: /^ECONNRESET$/,
  },
  "session-ended": {
    sse: /^ECONNRESET$|^closed$|^end$/,
    websocket: /^close 4401$/,
    grpc: /^grpc 16$/,
    tcp: /^ECONNRESET$/,
  },
  stale: { sse: /^ECONNRESET$|^closed$|^end$/, websocket: /^close 4503$/, grpc: /^grpc 14$/, tcp: /^ECONNRESET$/ },
  lifetime: { sse: /^ECONNRESET$|^closed$|^end$/, websocket: /^close 4408$/, grpc: /^grpc 14$/, tcp: /^ECONNRESET$/ },
};

export type Report = (line: string) => void;

/** @param streams in total, spread evenly over 100 users, the protocols and the routes */
export async function cutAmong(streams: number, report: Report = () => {}): Promise<void> {
  const users = 100;
  const company = await startCompany({ users, streams });
  try {
    const { rig } = company;
    const slow: StreamSpec[] = kinds.map((kind) => ({ user: outOfGroup, kind, route: "eng", slow: true }));
    const specs = [...streamsOf(users, streams), ...slow];
    const opened = await company.open(specs);
    const refused = (await company.states()).filter(({ ending }) => ending !== null);
    assert.deepEqual(refused.slice(0, 3), [], `${refused.length} streams could not be opened`);
    assert.equal(opened, specs.length);
    report(`${specs.length} streams are open, ${JSON.stringify(rig.proxy.stats().exchanges)}`);

    // The control plane is lost, but within the grace period of routes that keep serving.
    rig.lease.overdueMs = 30_000;
    await expectMessages(company, 2, () => true);
    rig.lease.overdueMs = -1_000;
    report("losing the control plane closed none of them");

    const took = await rig.apply(groupChanged({ removed: [outOfGroup] }));
    const isCut = ({ user, route }: StreamSpec): boolean => user === outOfGroup && route === "eng";
    const cut = specs.filter(isCut).length;
    assert.equal(rig.proxy.stats().cuts["not-permitted"], cut);
    await company.read();
    await exactlyEnd(company, isCut, "not-permitted");
    await expectMessages(company, 3, (stream) => !isCut(stream));
    const remaining = specs.length - cut;
    await waitFor("the upstream streams to close", async () => (await company.upstreamStreams()) === remaining, bounds);
    report(`one user left a group: exactly ${cut} streams were cut, in ${Math.round(took)} ms`);

    await rig.apply(sessionRevoked(revoked));
    const hasEnded = (stream: StreamSpec): boolean => isCut(stream) || stream.user === revoked;
    await exactlyEnd(company, hasEnded, "session-ended", (stream) => stream.user === revoked);
    await expectMessages(company, 4, (stream) => !hasEnded(stream));
    report("a session was revoked: exactly its streams were cut");
  } finally {
    await company.close();
  }
}

/** Each node enforces the stream lifetime by its own clock, without any message from a broker. */
export async function lifetimeEnds(): Promise<void> {
  const users = 5;
  const streams = 200;
  const company = await startCompany({ users, streams, route: { maxStreamLifetimeMs: 8_000 } });
  try {
    company.rig.lease.overdueMs = 30_000; // the node has lost its brokers
    await company.open(streamsOf(users, streams));
    await exactlyEnd(company, () => true, "lifetime");
    assert.equal(company.rig.proxy.stats().cuts.lifetime, streams);
    await waitFor("the upstream streams to close", async () => (await company.upstreamStreams()) === 0, bounds);
  } finally {
    await company.close();
  }
}

/**
 * A fenced node receives no revocations, so on routes that serve nothing without a lease every stream ends with the
 * lease, whatever its protocol.
 */
export async function leaseEnds(): Promise<void> {
  const users = 5;
  const streams = 200;
  const company = await startCompany({ users, streams, route: { onStale: "deny", staleGraceMs: 0 } });
  try {
    await company.open(streamsOf(users, streams));
    await expectMessages(company, 2, () => true);
    const { lease, proxy } = company.rig;
    lease.overdueMs = 1;
    await company.broadcast(); // these messages must not be forwarded
    await exactlyEnd(company, () => true, "stale");
    assert.equal(proxy.stats().cuts.stale, streams);
    const received = (await company.states()).filter((stream) => stream.received !== 2);
    assert.deepEqual(
      received.slice(0, 5),
      [],
      `${received.length} streams carried a message after the lease had ended`,
    );
    await waitFor("the upstream streams to close", async () => (await company.upstreamStreams()) === 0, bounds);
  } finally {
    await company.close();
  }
}

/** Waits until these streams have ended. Asserts that no other stream has, and that each shows the reason. */
async function exactlyEnd(
  company: Company,
  mustEnd: (stream: StreamSpec) => boolean,
  reason: keyof typeof endings,
  isNew: (stream: StreamSpec) => boolean = mustEnd,
): Promise<void> {
  const all = await waitFor(
    "the cut streams to end",
    async () => {
      const states = await company.states();
      return states.every((state) => !mustEnd(state) || state.ending !== null) && states;
    },
    bounds,
  );
  const wrong = all.filter((state) => (state.ending !== null) !== mustEnd(state));
  assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} streams that should be open are not`);
  const mislabelled = all.filter((state) => isNew(state) && !showsReason(state, reason));
  assert.deepEqual(mislabelled.slice(0, 5), [], `${mislabelled.length} streams ended for another reason`);
}

/** A caller that does not read receives no reason: its connection is reset. */
function showsReason({ kind, slow, ending }: StreamState, reason: keyof typeof endings): boolean {
  return slow ? /^ECONNRESET$|^closed$|^end$|^reset/.test(ending ?? "") : endings[reason][kind].test(ending ?? "");
}

async function expectMessages(company: Company, times: number, open: (stream: StreamSpec) => boolean): Promise<void> {
  await company.broadcast();
  await waitFor(
    `every stream to receive message ${times}`,
    async () => {
      const states = await company.states();
      return states.every(
        (state) => !open(state) || (state.ending === null && (state.slow || state.received >= times)),
      );
    },
    bounds,
  );
}
