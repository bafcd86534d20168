/** The story of a live cut, and what must be true of it, for as many streams as are wanted. */
import assert from "node:assert/strict";
import { members, revokedSession } from "../../proxy/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Company, startCompany, streamsOf } from "./company.ts";
import { type Kind, kinds, type StreamSpec, type StreamState } from "./protocol.ts";

const bounds = { withinMs: 120_000, everyMs: 100 };
const outOfGroup = 37;
const revoked = 5;

/** What a caller is told, by protocol. */
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

export type Told = (line: string) => void;

/** @param streams as many for each of 100 people, protocols and routes */
export async function cutAmong(streams: number, tell: Told = () => {}): Promise<void> {
  const users = 100;
  const company = await startCompany({ users, streams });
  try {
    const { rig } = company;
    const slow: StreamSpec[] = kinds.map((kind) => ({ user: outOfGroup, kind, route: "eng", slow: true }));
    const specs = [...streamsOf(users, streams), ...slow];
    const opened = await company.open(specs);
    const refused = (await company.look()).filter(({ ending }) => ending !== null);
    assert.deepEqual(refused.slice(0, 3), [], `${refused.length} streams could not be opened`);
    assert.equal(opened, specs.length);
    tell(`${specs.length} streams are open, ${JSON.stringify(rig.proxy.stats().exchanges)}`);

    // The control plane is lost, within the grace of a route that goes on serving.
    rig.lease.overdueMs = 30_000;
    await everybodyHears(company, 2, () => true);
    rig.lease.overdueMs = -1_000;
    tell("a lost control plane has closed none of them");

    const took = await rig.apply(members({ removed: [outOfGroup] }));
    const isCut = ({ user, route }: StreamSpec): boolean => user === outOfGroup && route === "eng";
    const cut = specs.filter(isCut).length;
    assert.equal(rig.proxy.stats().cuts["not-permitted"], cut);
    await company.read();
    await exactlyEnd(company, isCut, "not-permitted");
    await everybodyHears(company, 3, (stream) => !isCut(stream));
    const left = specs.length - cut;
    await waitFor("the upstream to be let go", async () => (await company.upstreamHolds()) === left, bounds);
    tell(`a group was left: ${cut} streams are cut, in ${Math.round(took)} ms, and no other`);

    await rig.apply(revokedSession(revoked));
    const isGone = (stream: StreamSpec): boolean => isCut(stream) || stream.user === revoked;
    await exactlyEnd(company, isGone, "session-ended", (stream) => stream.user === revoked);
    await everybodyHears(company, 4, (stream) => !isGone(stream));
    tell("a session was revoked: all of its streams are cut, and no other");
  } finally {
    await company.close();
  }
}

/** The lifetime is a comparison of this node's own: it needs nobody to say anything. */
export async function lifetimeEnds(): Promise<void> {
  const users = 5;
  const streams = 200;
  const company = await startCompany({ users, streams, route: { maxStreamLifetimeMs: 8_000 } });
  try {
    company.rig.lease.overdueMs = 30_000; // nothing is heard of anybody
    await company.open(streamsOf(users, streams));
    await exactlyEnd(company, () => true, "lifetime");
    assert.equal(company.rig.proxy.stats().cuts.lifetime, streams);
    await waitFor("the upstream to be let go", async () => (await company.upstreamHolds()) === 0, bounds);
  } finally {
    await company.close();
  }
}

/**
 * Whoever is fenced off hears of no revocation: what is open where nothing is served without a lease ends with the
 * lease, whatever its kind.
 */
export async function leaseEnds(): Promise<void> {
  const users = 5;
  const streams = 200;
  const company = await startCompany({ users, streams, route: { onStale: "deny", staleGraceMs: 0 } });
  try {
    await company.open(streamsOf(users, streams));
    await everybodyHears(company, 2, () => true);
    const { lease, proxy } = company.rig;
    lease.overdueMs = 1;
    await company.say(); // what comes now is carried no further
    await exactlyEnd(company, () => true, "stale");
    assert.equal(proxy.stats().cuts.stale, streams);
    const heard = (await company.look()).filter((stream) => stream.heard !== 2);
    assert.deepEqual(heard.slice(0, 5), [], `${heard.length} streams have carried something behind the lease`);
    await waitFor("the upstream to be let go", async () => (await company.upstreamHolds()) === 0, bounds);
  } finally {
    await company.close();
  }
}

/** Waits until these have ended, and looks that no other has, and that each was told why. */
async function exactlyEnd(
  company: Company,
  ends: (stream: StreamSpec) => boolean,
  reason: keyof typeof endings,
  isNew: (stream: StreamSpec) => boolean = ends,
): Promise<void> {
  const all = await waitFor(
    "the cut streams to end",
    async () => {
      const states = await company.look();
      return states.every((state) => !ends(state) || state.ending !== null) && states;
    },
    bounds,
  );
  const wrong = all.filter((state) => (state.ending !== null) !== ends(state));
  assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} streams that should be open are not`);
  const untold = all.filter((state) => isNew(state) && !wasTold(state, reason));
  assert.deepEqual(untold.slice(0, 5), [], `${untold.length} streams ended with another word`);
}

/** Who does not read cannot be told anything: the connection breaks off. */
function wasTold({ kind, slow, ending }: StreamState, reason: keyof typeof endings): boolean {
  return slow ? /^ECONNRESET$|^closed$|^end$|^reset/.test(ending ?? "") : endings[reason][kind].test(ending ?? "");
}

async function everybodyHears(company: Company, times: number, open: (stream: StreamSpec) => boolean): Promise<void> {
  await company.say();
  await waitFor(
    `everybody to hear something for the ${times}th time`,
    async () => {
      const states = await company.look();
      return states.every((state) => !open(state) || (state.ending === null && (state.slow || state.heard >= times)));
    },
    bounds,
  );
}
