/**
 * Bench: sign-ins and refreshes by 1,000 concurrent callers at a whole broker, from the check of the command to its
 * answer, beside plain inserts of as many rows and bytes on the same server, 100 rows a transaction.
 *
 * A sign-in seals a profile under the key of its person and tokens for the vault, and records up to three events. Rows
 * are events, keys and entries of the vault, measured as they are appended. A person who is known has signed in before,
 * says the same of herself, and has five sessions, of which each sign-in revokes the oldest. Rounds alternate, each is
 * compared with the plain one beside it, and the result is the median of these ratios.
 *
 *   node bench/append-sign-ins.ts [--seconds 30] [--only "new, 5 groups"]
 *
 * The server is that of append.ts.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import {
  type Command,
  type CommandId,
  type GroupId,
  type ProviderTokens,
  type SessionId,
  type UnixMs,
  userIdOf,
} from "../src/events/index.ts";
import type { AppendBatch, AppendOutcome, EventLog } from "../src/replication/log/index.ts";
import {
  byAllCallers,
  callers,
  type Feed,
  formatRatios,
  formatRounds,
  openLog,
  preparePlain,
  type Round,
  startBenchBroker,
  startStore,
  timed,
} from "./support/append-stand.ts";
import { type Budget, reportBudgets } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const rounds = 5;
const { values } = parseArgs({ options: { seconds: { type: "string", default: "30" }, only: { type: "string" } } });

type Subject = Readonly<{ name: string; ask: (caller: number) => Promise<void>; prepare?: () => Promise<void> }>;
type Appended = { commands: number; rows: number; bytes: number };

const store = await startStore();
try {
  const appended: Appended = { commands: 0, rows: 0, bytes: 0 };
  const log = counting(await openLog(store.connectionString), appended);
  const broker = startBenchBroker(log);
  const subjects = subjectsOf(broker.databroker("authenticate")).filter(({ name }) => name === (values.only ?? name));
  const roundMs = (Number(values.seconds) * 1_000) / rounds / subjects.length / 2;
  const budgets: Budget[] = [];
  for (const { name, ask, prepare } of subjects) {
    const run = (): Promise<Round> => timed(roundMs, (until) => byAllCallers(until, ask));
    await prepare?.();
    await run(); // warm-up
    Object.assign(appended, { commands: 0, rows: 0, bytes: 0 });
    await run();
    const rows = appended.rows / appended.commands;
    const rowBytes = Math.round(appended.bytes / appended.rows);
    const plain = await preparePlain(store.connectionString, { rowBytes, roundMs });
    const { ratios, ofBroker, ofPlain } = await compare({ run, close: plain.close }, plain, rows);
    const ratio = percentile(ratios, 50);
    console.log(`${name}: ${rows.toFixed(1)} rows of ${rowBytes} B`.padEnd(44), formatRounds(ofBroker));
    console.log("plain rows".padEnd(44), formatRounds(ofPlain));
    console.log("ratio of each pair".padEnd(44), formatRatios(ratios));
    budgets.push({ what: `${name}, beside plain inserts`, result: `${ratio.toFixed(2)} ×`, budget: "", met: null });
  }
  await broker.stop();
  await log.close();
  reportBudgets(budgets);
} finally {
  await store.stop();
}

/** @param rows the number of plain rows to which one of the other feed is equal */
async function compare(feed: Feed, plain: Feed, rows: number) {
  const ofPlain: Round[] = [];
  const ofBroker: Round[] = [];
  await plain.run(); // warm-up
  for (let round = 0; round < rounds; round += 1) {
    ofPlain.push(await plain.run());
    ofBroker.push(await feed.run());
  }
  await plain.close();
  return { ofPlain, ofBroker, ratios: ofBroker.map(({ rate }, n) => (rate * rows) / (ofPlain[n]?.rate ?? Number.NaN)) };
}

/** Counts what is appended. */
function counting(log: EventLog, appended: Appended): EventLog {
  const append = log.append.bind(log);
  log.append = (batch: AppendBatch): Promise<AppendOutcome> => {
    const { entries, vault, newKeys, commands } = batch;
    appended.commands += commands.length;
    appended.rows += entries.length + vault.length + newKeys.length;
    for (const { bytes } of entries) appended.bytes += bytes.length;
    for (const { sealed } of vault) appended.bytes += sealed.length;
    for (const { wrapped } of newKeys) appended.bytes += wrapped.length;
    return append(batch);
  };
  return log;
}

function subjectsOf(port: ReturnType<ReturnType<typeof startBenchBroker>["databroker"]>): readonly Subject[] {
  const issuer = "https://idp.example.com";
  const token = (bytes: number): string => randomBytes(bytes).toString("base64url");
  const idToken = token(600);
  const hourMs = 3_600_000;

  function tokens(): ProviderTokens {
    const accessTokenExpiresAt = (Date.now() + hourMs) as UnixMs;
    return {
      accessToken: token(30) + idToken,
      refreshToken: token(90),
      idToken: token(30) + idToken,
      accessTokenExpiresAt,
    };
  }

  function profileOf(subject: string) {
    const [email, name] = [`${subject}@example.com`, `Person ${subject}`];
    const claims = { sub: [subject], email: [email], name: [name], locale: ["en"], department: ["engineering"] };
    return { issuer, subject, email, emailVerified: true, name, claims };
  }

  async function submit(command: Command): Promise<void> {
    const result = await port.submit({ commandId: randomUUID() as CommandId, actor: "system", command });
    if (result.type !== "done" || !result.changed) throw new Error(`not appended: ${JSON.stringify(result)}`);
  }

  function signIn(subject: string, groups: number, sessionId = randomUUID() as SessionId): Promise<void> {
    const groupIds = Array.from({ length: groups }, (_, n) => `group-${n}` as GroupId);
    const [issuedAt, expiresAt] = [Date.now() as UnixMs, (Date.now() + 8 * hourMs) as UnixMs];
    const of = { sessionId, userId: userIdOf(issuer, subject), idpId: "", issuedAt, expiresAt, groupIds };
    const parts = { profile: profileOf(subject), tokens: tokens(), maxSessionsPerUser: 5 };
    return submit({ type: "createSession", ...of, ...parts });
  }

  const all = Array.from({ length: callers }, (_, caller) => caller);
  const subjects: Subject[] = [];
  for (const groups of [5, 50]) {
    subjects.push({ name: `sign-in, new, ${groups} groups`, ask: () => signIn(token(9), groups) });
    const known = (caller: number): string => `known-${groups}-${caller}`;
    subjects.push({
      name: `sign-in, known, ${groups} groups`,
      prepare: async () => void (await Promise.all(all.map((caller) => signIn(known(caller), groups)))),
      ask: (caller) => signIn(known(caller), groups),
    });
  }
  const sessions = all.map(() => randomUUID() as SessionId);
  const groupIds = Array.from({ length: 5 }, (_, n) => `group-${n}` as GroupId);
  subjects.push({
    name: "refresh, 5 groups",
    prepare: async () => void (await Promise.all(sessions.map((id, n) => signIn(`refreshed-${n}`, 5, id)))),
    ask: (caller) => {
      const [sessionId = "" as SessionId, refreshedAt] = [sessions[caller], Date.now() as UnixMs];
      const of = { sessionId, profile: profileOf(`refreshed-${caller}`), tokens: tokens(), groupIds, refreshedAt };
      return submit({ type: "refreshSession", ...of });
    },
  });
  return subjects;
}
