/**
 * Operator: a process that continuously signs people in, ends sessions and changes group memberships.
 *
 * Only received answers count: a cut begins when a complete receipt has fully arrived, and then the clients try at
 * once.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Agent } from "undici";
import { loadConfig } from "../../src/config/index.ts";
import { connectMain, type Message } from "../cluster/helper-process.ts";
import { type Intent, type Ns, nsPerMs } from "../judge/history.ts";
import { openHistoryFile } from "../judge/history-file.ts";
import { runClock } from "../judge/run-clock.ts";
import { randomFrom } from "../random.ts";
import { newcomers, type Person, people, routes } from "../world.ts";
import { type CommandRun, createOperatorClient, type OperatorDoor } from "./operator-client.ts";
import { createSessionMaker } from "./session-maker.ts";
import { signIn } from "./sign-in.ts";

export type OperatorOptions = Readonly<{
  origin: string;
  history: string;
  seed: number;
  configFile: string;
  issuer: string;
  /** The operator APIs and the proxies by region; a person signs in in one region. */
  doors: readonly (OperatorDoor & Readonly<{ proxyPorts: readonly number[] }>)[];
  sessions: number;
  revokers: number;
}>;

const { options, main } = connectMain<OperatorOptions>();
const now = runClock(options.origin);
const history = openHistoryFile(options.history, { process: "operator", now });
const random = randomFrom(options.seed);
const loaded = loadConfig(options.configFile, { env: {} });
if (!loaded.ok) throw new Error(`${options.configFile} is not valid`);
const { config } = loaded;
let stopping = false;
const shared = { now, history, stopping: () => stopping, random };
const { host, hostname } = config.authenticateServiceUrl;
const client = await createOperatorClient({
  ...shared,
  name: "op",
  host,
  doors: options.doors,
  secret: config.sharedSecret,
  onLocalReceipt: (op, region, intent) => sendProbe({ op, region, sessions: sessionsOf(intent), routes: allRoutes }),
});
const maker = createSessionMaker({ ...shared, name: "operator", config, issuer: options.issuer });
const browser = new Agent({ headersTimeout: 10_000, bodyTimeout: 10_000, connect: { timeout: 2_000 } });

/** Sessions whose end has not begun, with their user's name. */
const live = new Map<string, string>();
const counts = { sessions: 0, signIns: 0, signInsFailed: 0, revocations: 0, complete: 0 };
const allRoutes = routes.map((route) => route.name);
/** How long clients still try an ended session. */
const afterlifeMs = 12_000;
const shortLivedShare = 0.1;
const suspensionShare = 0.3;

type Announced = Readonly<{
  session: string;
  person: Person;
  cookie: string;
  hosts: readonly string[];
  link: Readonly<{ epoch: number; position: number }>;
  expiresAt: Ns | null;
  begin: Ns;
  via: "command" | "sign-in";
}>;

function announce({ session, person, cookie, hosts, link, expiresAt, begin, via }: Announced): void {
  const { epoch, position } = link;
  history.write({ type: "session", session, user: person.name, via, begin, end: now(), epoch, position, expiresAt });
  live.set(session, person.name);
  counts.sessions += 1;
  main.send({ type: "session", session, user: person.name, cookie, routes: hosts });
  if (expiresAt !== null) setTimeout(() => bury([session]), (expiresAt - now()) / nsPerMs);
}

function bury(sessions: readonly string[]): void {
  for (const session of sessions) live.delete(session);
  const retire = (): void => {
    for (const session of sessions) main.send({ type: "retire", session });
  };
  setTimeout(retire, afterlifeMs);
}

async function addSession(person: Person): Promise<void> {
  const begin = now();
  const made = await maker.make(person, random.next() < shortLivedShare ? "short" : "long");
  if (made === undefined) return;
  announce({ ...made, person, hosts: allRoutes, begin, via: "command" });
}

// --- what goes on all the time

async function populate(): Promise<void> {
  let left = options.sessions;
  const one = async (): Promise<void> => {
    while (left > 0 && !stopping) {
      left -= 1;
      await addSession(people[left % people.length] ?? random.pick(people));
    }
  };
  await Promise.all(Array.from({ length: 16 }, one));
}

async function keepReplenishing(): Promise<void> {
  while (!stopping) {
    if (live.size < options.sessions) await addSession(random.pick(people));
    else await delay(30);
  }
}

async function keepRevokingSessions(): Promise<void> {
  while (!stopping) {
    const session = live.size === 0 ? undefined : random.pick([...live.keys()]);
    if (session !== undefined) {
      live.delete(session);
      counts.revocations += 1;
      const path = `/sessions/${encodeURIComponent(session)}/revoke`;
      requestProbes(await client.runCommand({ type: "revoke-session", session }, path, {}), [session], allRoutes);
      bury([session]);
    }
    await delay(random.between(100, 500));
  }
}

/** Ends all sessions of a person, sometimes by a suspension that is lifted again. */
async function keepRevokingUsers(): Promise<void> {
  while (!stopping) {
    await delay(random.between(1_500, 4_000));
    const person = random.pick(people);
    const { name: user } = person;
    const path = `/users/${encodeURIComponent(maker.userId(person))}`;
    const theirs = [...live].filter(([, each]) => each === user).map(([session]) => session);
    const isSuspension = random.next() < suspensionShare;
    counts.revocations += 1;
    const run = isSuspension
      ? await client.runCommand({ type: "suspend-user", user }, `${path}/suspend`, {})
      : await client.runCommand({ type: "revoke-user", user }, `${path}/sessions/revoke`, {});
    requestProbes(run, theirs, allRoutes);
    // Sessions created meanwhile may have ended too. Only the checker knows, by their position.
    bury([...live].filter(([, each]) => each === user).map(([session]) => session));
    if (!isSuspension) continue;
    await delay(random.between(500, 1_500));
    await client.runCommand({ type: "restore-user", user }, `${path}/restore`, {});
  }
}

async function keepMoving({ user, group }: (typeof newcomers)[number]): Promise<void> {
  const person = people.find((each) => each.name === user);
  if (person === undefined) return;
  const path = `/groups/${encodeURIComponent(group)}/members`;
  const theirRoutes = routes.filter((route) => route.group === group).map((route) => route.name);
  await delay(random.between(500, 3_000));
  while (!stopping) {
    counts.revocations += 1;
    const removed = await client.runCommand({ type: "remove-member", user, group }, path, {
      remove: [maker.userId(person)],
    });
    const theirs = [...live].filter(([, each]) => each === user).map(([session]) => session);
    requestProbes(removed, theirs.slice(0, 5), theirRoutes);
    await delay(random.between(1_000, 3_000));
    const added = await client.runCommand({ type: "add-member", user, group }, path, { add: [maker.userId(person)] });
    if (removed.outcome === "unknown" || added.outcome === "unknown") return; // the membership is unknown
    await delay(random.between(1_000, 2_500));
  }
}

function requestProbes({ op, complete }: CommandRun, sessions: readonly string[], routeNames: readonly string[]): void {
  if (!complete) return;
  counts.complete += 1;
  sendProbe({ op, region: null, sessions, routes: routeNames });
}

type Probe = Omit<Extract<Message, { type: "probe" }>, "type">;

function sendProbe(probe: Probe): void {
  main.send({ type: "probe", ...probe, sessions: probe.sessions.slice(0, 8) });
}

/** The sessions that a command ends, as far as this process knows them. */
function sessionsOf(intent: Intent): readonly string[] {
  if (intent.type === "revoke-session") return [intent.session];
  if (intent.type !== "revoke-user" && intent.type !== "suspend-user") return [];
  return [...live].filter(([, user]) => user === intent.user).map(([session]) => session);
}

async function keepSigningIn(): Promise<void> {
  while (!stopping) {
    const person = random.pick(people.filter((each) => each.signsIn === "for-real"));
    const route = random.pick(routes.filter(({ group }) => group === null || person.groups.includes(group)));
    const door = random.pick(options.doors);
    const url = new URL(`http://${route.host}:${random.pick(door.proxyPorts)}/echo?r=sign-in`);
    const begin = now();
    try {
      const { session, cookie, needs } = await signIn({
        dispatcher: browser,
        url,
        user: person.name,
        cookieName: config.cookie.name,
        nearest: new Map([[hostname, door.port]]),
      });
      counts.signIns += 1;
      history.write({
        type: "command",
        op: `sign-in-${counts.signIns}`,
        intent: { type: "create-session", session, user: person.name },
        region: door.region,
        commandId: "",
        begin,
        end: now(),
        outcome: "done",
        link: needs,
        changed: false,
        problem: "",
      });
      announce({ session, person, cookie, hosts: [route.name], link: needs, expiresAt: null, begin, via: "sign-in" });
    } catch (error) {
      counts.signInsFailed += 1;
      history.write({
        type: "note",
        at: now(),
        text: `sign-in of ${person.name} in ${door.region} failed: ${String(error)}`,
      });
    }
    await delay(random.between(300, 1_200));
  }
}

async function work(): Promise<void> {
  const loops = [
    ...Array.from({ length: options.revokers }, keepRevokingSessions),
    ...Array.from({ length: 2 }, keepReplenishing),
    ...newcomers.map(keepMoving),
    keepRevokingUsers(),
    keepSigningIn(),
  ];
  await Promise.all(loops);
}

let working: Promise<void> = Promise.resolve();
main.onMessage((message) => {
  if (message.type === "start") working = work();
  if (message.type !== "stop") return;
  stopping = true;
  // Open operations end by themselves; their answers still count.
  void Promise.race([working, delay(20_000)])
    .then(() => Promise.all([client.close(), maker.close(), browser.destroy(), history.close()]))
    .then(() => process.exit(0));
});
setInterval(() => main.send({ type: "progress", counts: { ...counts, live: live.size } }), 1_000);
await populate();
main.send({ type: "ready", port: 0 });
