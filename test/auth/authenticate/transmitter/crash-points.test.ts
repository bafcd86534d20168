/**
 * Crash points: the duties that send and fetch signals, killed before and after each of their calls to the outside, and
 * begun again by the next leader. Nothing is lost, and what comes twice has the same identity.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateKeyPair, SignJWT } from "jose";
import { createPollDuty, type PollDeps } from "../../../../src/auth/authenticate/signals/poll-duty.ts";
import { eventsPerPoll } from "../../../../src/auth/authenticate/signals/poll-rules.ts";
import { transmitterRulesOf } from "../../../../src/auth/authenticate/signals/signal-plan.ts";
import type { TransmitterClient } from "../../../../src/auth/authenticate/signals/transmitter-client.ts";
import { RestoredPeople } from "../../../../src/auth/authenticate/transmitter/restored-people.ts";
import { signalsOf } from "../../../../src/auth/authenticate/transmitter/signals.ts";
import { StreamDuty, type TransmitContext } from "../../../../src/auth/authenticate/transmitter/stream-duty.ts";
import {
  formatRecord,
  jtiOf,
  newStream,
  parseRecord,
} from "../../../../src/auth/authenticate/transmitter/stream-record.ts";
import { newTransmitMemory } from "../../../../src/auth/authenticate/transmitter/transmit-memory.ts";
import { eventUriOf, type PollRequest } from "../../../../src/auth/shared-signals/index.ts";
import type { SignalReceiverConfig, SignalTransmitterConfig } from "../../../../src/config/index.ts";
import {
  type CardeaEvent,
  type CommandRequest,
  type CommandResult,
  encodeEvent,
  genesis,
  linkOf,
  Projection,
  type Recorded,
  signalCommandId,
  type UnixMs,
} from "../../../../src/events/index.ts";
import { created, record, revoked, userId } from "../../../events/support.ts";

/** `before`: the call never happens. `after`: it happens, and its answer is lost. */
type Crash = Readonly<{ at: number; when: "before" | "after" }>;

/** One life of a process: it dies at its nth call, and nothing of it goes on. */
class Life {
  readonly died: Promise<"died">;
  readonly #crash: Crash | null;
  readonly #die: () => void;
  calls = 0;
  isDead = false;

  constructor(crash: Crash | null) {
    this.#crash = crash;
    const { promise, resolve } = Promise.withResolvers<"died">();
    this.died = promise;
    this.#die = () => {
      this.isDead = true;
      resolve("died");
    };
  }

  call<In extends readonly unknown[], Out>(made: (...args: In) => Out | Promise<Out>): (...args: In) => Promise<Out> {
    return async (...args) => {
      const isLast = this.calls++ === this.#crash?.at;
      if (this.isDead) return never;
      if (isLast && this.#crash?.when === "before") {
        this.#die();
        return never;
      }
      const out = await made(...args);
      if (isLast) this.#die();
      return this.isDead ? never : out;
    };
  }
}
const never = new Promise<never>(() => {});

/** Runs every plan with one crash, and some of those with two. `run` returns how many calls the first life made. */
async function everyCrash(run: (crashes: readonly Crash[]) => Promise<number>): Promise<number> {
  const calls = await run([]);
  const points = Array.from({ length: calls }, (_, at) =>
    (["before", "after"] as const).map((when): Crash => ({ at, when })),
  ).flat();
  for (const first of points) {
    await run([first]);
    for (const second of points) if ((second.at + 3 * first.at) % 11 === 0) await run([first, second]);
  }
  return calls;
}

// --- the duty that sends

const receiver: SignalReceiverConfig = {
  ...{ name: "payroll", audience: "https://payroll.example.com", tokenHash: null, client: null },
  events: ["session-revoked", "account-disabled", "account-enabled", "account-purged"],
  ...{ subjectFormat: "email", sessionSubject: "complex", subjects: "all", groups: null, claims: [], pushUrls: [] },
  ...{ minVerificationMs: 60_000, inactivityMs: null },
};
const person = (n: number): CardeaEvent => ({ type: "UserUpserted", userId: userId(n), profile: new Uint8Array([n]) });
const streamId = "stream-1";

/** What outlives a process: the log, the record in the vault, and the receiver. */
class SendingWorld {
  readonly accepted: string[] = [];
  readonly projection = new Projection();
  now = 1_000_000;
  events: CardeaEvent[] = [
    ...[person(1), person(2), created(1, 1), created(2, 2), created(3, 1), revoked(1, 1), revoked(2, 2)],
    { type: "UserSuspended", userId: userId(1), reason: "" },
    { type: "UserRestored", userId: userId(1) },
    revoked(3, 1),
    { type: "UserErased", userId: userId(2) },
  ];
  recorded: readonly Recorded[] = [];
  version = 1;
  text = formatRecord({
    salt: "s".repeat(43),
    stream: newStream({
      ...{ streamId, createdAt: 1 as UnixMs, requested: null, description: null, at: genesis },
      delivery: {
        method: "urn:ietf:rfc:8935",
        endpoint_url: "https://payroll.example.com/",
        authorization_header: null,
      },
    }),
  });

  constructor() {
    this.append();
  }

  append(...more: readonly CardeaEvent[]): void {
    this.events.push(...more);
    this.recorded = record(this.events);
    for (const each of this.recorded.slice(this.projection.applied.position)) this.projection.apply(each);
  }

  submit({ command, commandId }: CommandRequest): CommandResult {
    assert.ok(command.type === "writeSignalStream");
    if (command.expected !== this.version)
      return { type: "refused", commandId, code: "conflict", message: "another version" };
    this.version += 1;
    this.text = command.record;
    const { receiver: name, streamId: id, status, delivered } = command;
    this.append({ type: "SignalStreamChanged", receiver: name, streamId: id, status, delivered });
    return { type: "done", commandId, link: this.projection.applied, changed: true };
  }

  /** The tokens that the receiver has to get, in the order of the log, with their people. */
  expected(): readonly Readonly<{ jti: string; key: string }>[] {
    return this.recorded.flatMap((each) =>
      signalsOf(each).flatMap((signal, index) =>
        receiver.events.includes(signal.name)
          ? [{ jti: jtiOf(streamId, linkOf(each).hash, index), key: signal.userId ?? "" }]
          : [],
      ),
    );
  }
}

async function send(world: SendingWorld, crash: Crash | null): Promise<number> {
  const life = new Life(crash);
  const { projection } = world;
  const open = async () => new Map();
  const context: TransmitContext = {
    ...{ projection, leads: () => !life.isDead, signal: new AbortController().signal },
    clock: { monotonic: () => world.now, wall: () => world.now as UnixMs },
    submit: life.call((request: CommandRequest) => world.submit(request)),
    profiles: life.call(open),
    logBase: life.call(() => genesis),
    storedSignalStream: life.call(() => ({ version: world.version, record: world.text, outdated: false })),
    read: life.call((after, limit) => {
      const entries = world.recorded.slice(after.position, after.position + Math.min(3, limit));
      const bytes = entries.map((each) => encodeEvent(each as Parameters<typeof encodeEvent>[0]));
      const page = { previous: after, entries: bytes, last: projection.applied, head: projection.applied, keys: [] };
      return { type: "page", page };
    }),
  };
  let ids = 0;
  const duty = new StreamDuty(
    {
      ...{ issuer: "https://first.example.com", memory: newTransmitMemory(), uuid: () => `id-${ids++}` },
      signer: { jwks: { keys: [] }, sign: life.call((claims) => JSON.stringify(claims)) },
      post: life.call((_target, token) => {
        world.accepted.push((JSON.parse(token) as { jti: string }).jti);
        return { type: "accepted" };
      }),
      restored: new RestoredPeople({ projection, recordsOf: () => [], open, now: () => 0 as UnixMs, salt: "s" }),
      log: { info() {}, warn() {}, error: (fields, message) => assert.fail(`${message} ${JSON.stringify(fields)}`) },
    },
    receiver,
    context,
  );
  for (let turns = 0; turns < 200 && !life.isDead; turns++) {
    await Promise.race([duty.turn(), life.died]);
    await Promise.race([new Promise((resolve) => setImmediate(resolve)), life.died]);
    world.now += 300;
    const { stream } = parseRecord(world.text);
    const isDone = world.expected().every(({ jti }) => world.accepted.includes(jti));
    if (isDone && !duty.isBusy && stream !== null && stream.delivered > 0 && turns > 20) break;
  }
  if (!life.isDead) await Promise.race([duty.finish(), life.died]);
  return life.calls;
}

test("the duty that pushes loses nothing wherever its process dies, and repeats only what was under way", async () => {
  const calls = await everyCrash(async (crashes) => {
    const world = new SendingWorld();
    const what = JSON.stringify(crashes);
    const made: number[] = [];
    for (const crash of [...crashes, null]) made.push(await send(world, crash));
    const expected = world.expected();
    assert.deepEqual([...new Set(world.accepted)].sort(), expected.map(({ jti }) => jti).sort(), what);
    for (const { jti } of expected) {
      const times = world.accepted.filter((each) => each === jti).length;
      assert.ok(times <= crashes.length + 1, `${jti} came ${times} times: ${what}`);
    }
    for (const key of new Set(expected.map((each) => each.key))) {
      const ofOne = expected.filter((each) => each.key === key).map(({ jti }) => jti);
      const first = [...new Set(world.accepted)].filter((jti) => ofOne.includes(jti));
      assert.deepEqual(first, ofOne, `the order of one person: ${what}`);
    }
    const { stream } = parseRecord(world.text);
    assert.ok((stream?.cursor.after.position ?? 0) >= 11 || stream?.done.length === expected.length, what);
    return made[0] ?? 0;
  });
  assert.ok(calls > 20, `${calls} calls`);
});

// --- the duty that fetches

const issuer = "https://idp.example.com";
const audience = "https://cardea.example.com";
const tokensMax = eventsPerPoll + 3;
const config: SignalTransmitterConfig = {
  ...{ name: "okta", issuer, audiences: [audience], delivery: "poll", pushToken: null, match: ["subject", "email"] },
  ...{ accessToken: "t", client: null, pollUrl: new URL(`${issuer}/poll`), streamId: null, subjectIssuers: [] },
  ...{ actions: { "session-revoked": "revoke-sessions" }, metadataUrl: null, jwksUrl: new URL(`${issuer}/jwks`) },
};

async function signedTokens() {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const tokens = new Map<string, string>();
  for (let n = 0; n < tokensMax; n++) {
    const sub_id = { format: "email", email: `p${n}@example.com` };
    const claims = { jti: `t-${n}`, iss: issuer, aud: n === 5 ? "https://other.example.com" : audience, sub_id };
    const token = new SignJWT({ ...claims, events: { [eventUriOf("session-revoked")]: {} } });
    const signed = await token
      .setProtectedHeader({ alg: "ES256", kid: "k", typ: "secevent+jwt" })
      .setIssuedAt(1_000)
      .sign(privateKey);
    tokens.set(`t-${n}`, signed);
  }
  return { tokens, publicKey };
}

test("the duty that polls acknowledges nothing that the log lacks, and records each token once, wherever its process dies", async () => {
  const { tokens, publicKey } = await signedTokens();
  const commandOf = (jti: string) => signalCommandId("okta", { issuer, jti }, 0);
  const calls = await everyCrash(async (crashes) => {
    const what = JSON.stringify(crashes);
    const pending = new Map(tokens);
    const log = new Map<string, number>();
    const errors = new Set<string>();
    let now = 1_000_000;
    const made: number[] = [];
    for (const crash of [...crashes, null]) {
      const life = new Life(crash);
      const client: TransmitterClient = {
        metadata: async () => assert.fail("no metadata is needed"),
        criticalMembers: life.call(() => []),
        keys: async () => Object.assign(async () => publicKey, { coolingDown: false }) as never,
        noteKeyFailure() {},
        request: life.call((_method, _url, options) => {
          const { ack = [], setErrs = {}, maxEvents } = (options?.body ?? {}) as Partial<PollRequest>;
          for (const jti of ack) {
            assert.ok(log.has(commandOf(jti)), `${jti} is acknowledged before the log has it: ${what}`);
            pending.delete(jti);
          }
          for (const jti of Object.keys(setErrs)) {
            errors.add(jti);
            pending.delete(jti);
          }
          const sets = Object.fromEntries([...pending].slice(0, maxEvents ?? 100));
          return { status: 200, body: { sets } };
        }),
      };
      const deps: PollDeps = {
        transmitters: [{ config, rules: transmitterRulesOf(config, []), client }],
        nowMs: () => 1_000_000,
        stateKeys: [],
        ...{ onReceived() {}, onPolled() {}, log: { info() {}, warn() {} }, runMsMax: 10_000 },
        async sleep(ms) {
          now += ms;
        },
      };
      const submit = life.call(({ commandId }: CommandRequest): CommandResult => {
        const known = log.get(commandId);
        if (known === undefined) log.set(commandId, log.size + 1);
        const position = known ?? log.size;
        return { type: "done", commandId, link: { ...genesis, position: position as never }, changed: true };
      });
      const duty = createPollDuty(deps);
      const context = { submit, leads: () => !life.isDead, signal: new AbortController().signal };
      await Promise.race([duty({ ...context, clock: { monotonic: () => now } }), life.died]);
      made.push(life.calls);
    }
    assert.deepEqual([...pending.keys()], [], what);
    assert.deepEqual([...errors], ["t-5"], what);
    const wanted = [...tokens.keys()].filter((jti) => jti !== "t-5").map(commandOf);
    assert.deepEqual([...log.keys()].sort(), wanted.sort(), what);
    return made[0] ?? 0;
  });
  assert.ok(calls > 20, `${calls} calls`);
});
