/** A broker on a memory log whose leader reads a directory that the test controls. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import {
  createDirectoryDuty,
  type DirectoryDuty,
  type DirectoryDutyDeps,
  type OpenDirectory,
} from "../../../src/auth/directory/index.ts";
import { type DirectoryPage, type DirectorySource, emptyPage } from "../../../src/auth/directory/source.ts";
import { provisionedFor } from "../../../src/auth/index.ts";
import type { DutyContext } from "../../../src/broker/index.ts";
import {
  type Command,
  type CommandRequest,
  type CommandResult,
  type DirectoryState,
  decodeEvents,
  directoryClient,
  directoryStateUser,
  genesis,
  isMember,
  type Profile,
  type Projection,
  parseDirectoryState,
  provisionedUserId,
  type Recorded,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import { createPersonKeys } from "../../../src/replication/node/index.ts";
import { asked, brokerOn, createSession, folded, secret } from "../../broker/support.ts";
import type { DirectoryContent } from "../../contract/directory-source.ts";
import { waitFor } from "../../support/wait-for.ts";

export const issuer = "https://idp.test";

export const person = (id: string, fields: Partial<DirectoryContent["people"][number]> = {}) => ({
  id,
  userName: id,
  email: `${id}@example.test`,
  name: id.toUpperCase(),
  active: true,
  ...fields,
});
export const group = (id: string, people: readonly string[], groups: readonly string[] = []) => ({
  id: `id-${id}`,
  name: id,
  people,
  groups,
});

/** A directory in memory. Pages have two people, or one group. A delta is what the test says. */
export class MemoryDirectory implements DirectorySource {
  content: DirectoryContent = { people: [], groups: [] };
  /** Answers the next reads, one each. */
  readonly answers: (() => DirectoryPage | Promise<DirectoryPage>)[] = [];
  delta: DirectoryPage | null = null;
  readPerson?: NonNullable<DirectorySource["readPerson"]>;
  readonly reads: (string | null)[] = [];
  /** How many of the first reads of a run were full. */
  fullRuns = 0;

  async read({ since, cursor }: Parameters<DirectorySource["read"]>[0]): Promise<DirectoryPage> {
    this.reads.push(cursor);
    if (since === null && cursor === null) this.fullRuns += 1;
    const answer = this.answers.shift();
    if (answer !== undefined) return answer();
    if (since !== null) {
      assert.ok(this.delta !== null, "the test offers no delta");
      return this.delta;
    }
    const pages = this.pages();
    const at = Number(cursor ?? 0);
    const isLast = at >= pages.length - 1;
    const delta = isLast && this.delta !== null ? "delta 1" : null;
    return { ...emptyPage, ...pages[at], next: isLast ? null : String(at + 1), delta };
  }

  pages(): Partial<DirectoryPage>[] {
    const pages: Partial<DirectoryPage>[] = [];
    for (let at = 0; at < this.content.people.length; at += 2)
      pages.push({ people: this.content.people.slice(at, at + 2) });
    for (const { id, name, people, groups } of this.content.groups)
      pages.push({ groups: [{ id, name }], members: [{ groupId: id, people, groups }] });
    return pages;
  }

  async close(): Promise<void> {}
}

export type DirectoryWorld = Readonly<{
  log: EventLog;
  directory: MemoryDirectory;
  submit(command: Command, as?: "authenticate" | "operator"): Promise<CommandResult>;
  /** What a duty of the leader gets. */
  context(): Promise<DutyContext>;
  /** A duty without memory, as a new leader has it. */
  newDuty(): DirectoryDuty;
  /** Submits as a duty of the leader. */
  submitAsDuty(request: CommandRequest): Promise<CommandResult>;
  signIn(subject: string): Promise<CommandResult>;
  /** Runs the directory now, and waits until the run has ended. */
  sync(options?: Readonly<{ removals: boolean }>): Promise<NonNullable<DirectoryState["last"]>>;
  state(): Promise<DirectoryState | undefined>;
  projection(): Promise<Projection>;
  events(): Promise<readonly Recorded[]>;
  membersOf(groupId: string): Promise<readonly string[]>;
  /** The user of the directory's record of a person. */
  recordOf(id: string): UserId;
  /** The user who signs in with this subject. */
  userOf(subject: string): UserId;
}>;

export async function directoryWorld(
  t: TestContext,
  options: Readonly<{
    level?: number;
    match?: OpenDirectory["match"];
    everyMs?: number;
    others?: readonly OpenDirectory[];
    log?: EventLog;
    /** Runs before each command of the duty. */
    beforeSubmit?: (request: CommandRequest) => Promise<void>;
    /** The test runs duties of its own meanwhile. */
    isPaused?: () => boolean;
  }> = {},
): Promise<DirectoryWorld> {
  const directory = new MemoryDirectory();
  const log = options.log ?? createMemoryLog();
  const match = options.match ?? "subject";
  const own: OpenDirectory = {
    name: "corp",
    match,
    groups: "name",
    everyMs: options.everyMs ?? 3_600_000,
    source: directory,
  };
  const directories = [own, ...(options.others ?? [])];
  const clients = directories.map((each) => ({
    name: directoryClient(each.name),
    match: each.match,
    claim: null,
    provider: null,
  }));
  const correlation = provisionedFor(clients, issuer);
  assert.ok(correlation !== undefined);
  const dutyDeps: DirectoryDutyDeps = {
    directories: () => directories,
    provisionedFor: correlation,
    uuid: randomUUID,
    sleep: (ms, signal) => sleep(Math.min(ms, 20), undefined, { signal }),
    pause: async () => void (await turn()),
    log: { info() {}, warn() {} },
  };
  const duty = createDirectoryDuty(dutyDeps);
  const context = Promise.withResolvers<DutyContext>();
  const holder = {
    name: "holder",
    everyMs: 60_000,
    // Stays in its run, so that the context remains valid.
    run: async (of: DutyContext) => {
      context.resolve(of);
      await new Promise((resolve) => of.signal.addEventListener("abort", resolve, { once: true }));
    },
  };
  const run = async (of: DutyContext): Promise<void> => {
    if (options.isPaused?.() === true) return;
    await duty.run({
      ...of,
      async submit(request) {
        await options.beforeSubmit?.(request);
        return of.submit(request);
      },
    });
  };
  const directoryDuty = { name: "directories", everyMs: 20, run };
  const broker = brokerOn(log, { duties: [directoryDuty, holder] });
  t.after(async () => {
    await broker.stop();
    duty.close();
  });
  const submit = (command: Command, as: "authenticate" | "operator" = "operator"): Promise<CommandResult> =>
    broker.databroker(as).submit(asked(command));
  const finalize: Command = { type: "finalizeUpgrade", level: options.level ?? 5 };
  await waitFor("the level", async () => (await submit(finalize)).type === "done");
  const userOf = (subject: string): UserId => `u-${subject}` as UserId;
  const profileOf = (subject: string): Profile => ({
    issuer,
    subject,
    email: `${subject}@example.test`,
    emailVerified: true,
    name: subject,
    claims: {},
  });
  let signIns = 0;
  const state = async (): Promise<DirectoryState | undefined> => {
    const projection = await folded(log);
    return parseDirectoryState(await openUser(log, projection, directoryStateUser("corp")));
  };
  if ((options.level ?? 5) >= 5)
    await waitFor("the first run, of an empty directory", async () => (await state())?.last?.result === "complete");
  return {
    log,
    directory,
    submit,
    context: () => context.promise,
    newDuty: () => createDirectoryDuty(dutyDeps),
    submitAsDuty: async (request) => (await context.promise).submit(request),
    signIn(subject) {
      const profile = profileOf(subject);
      const command = createSession(`session-${++signIns}`, userOf(subject), {
        profile,
        provisioned: correlation(profile),
      });
      return submit(command, "authenticate");
    },
    async sync({ removals } = { removals: false }) {
      const before = (await state())?.last?.endedAt ?? 0;
      const request = { type: "requestDirectorySync", directory: "corp", requestId: randomUUID(), removals } as const;
      const asked = await submit(request);
      assert.equal(asked.type, "done", JSON.stringify(asked));
      return waitFor("the end of the run", async () => {
        const now = await state();
        return now?.run === null && now.asked === null && now.last !== null && now.last.endedAt > before
          ? now.last
          : undefined;
      });
    },
    state,
    projection: () => folded(log),
    events: () => allEvents(log),
    async membersOf(groupId) {
      const projection = await folded(log);
      const id = groupId as Parameters<Projection["membersOf"]>[0];
      return [...projection.membersOf(id)]
        .filter((userId) => isMember(projection.membership(userId, id), Date.now() as UnixMs))
        .sort();
    },
    recordOf: (id) => provisionedUserId(directoryClient("corp"), id),
    userOf,
  };
}

export async function openUser(log: EventLog, projection: Projection, userId: UserId): Promise<Profile | undefined> {
  const sealed = projection.user(userId)?.profile;
  if (sealed === undefined || sealed === null) return undefined;
  const keys = createPersonKeys([secret]);
  keys.add(await log.keys([userId]));
  return keys.open(sealed, userId);
}

async function allEvents(log: EventLog): Promise<readonly Recorded[]> {
  const events: Recorded[] = [];
  for (let after = genesis; ; ) {
    const outcome = await log.read(after, 10_000);
    if (outcome.type !== "page" || outcome.page.entries.length === 0) return events;
    const decoded = decodeEvents(outcome.page.entries, after);
    events.push(...decoded);
    const last = decoded.at(-1);
    if (last === undefined) return events;
    after = { epoch: last.epoch, position: last.position, hash: last.hash };
  }
}
