/** A broker's snapshot service on a real log and disk. The test controls the time and the nodes. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { createSnapshotService, type DutyContext } from "../../../src/broker/index.ts";
import {
  type CommandId,
  decodeEvents,
  type Link,
  type Position,
  Projection,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import type { EpochMark } from "../../../src/replication/lease/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  EventArchiveFolder,
  SnapshotFolder,
  type SnapshotSupply,
  sealManifest,
} from "../../../src/replication/snapshot/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { signer } from "../../replication/snapshot/support.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { cluster, quiet, secret } from "../support.ts";

export const longAfter = 4_000_000_000_000 as UnixMs;

export async function office(
  t: TestContext,
  parts: Readonly<{
    hold?: "everything" | "nothing";
    retentionMs?: number;
    path?: string;
    log?: EventLog;
    others?: SnapshotSupply;
    archive?: Readonly<{ archiveMs: number; bytesMax: number }>;
    everyEvents?: number;
  }> = {},
) {
  const path = parts.path ?? mkdtempSync(join(tmpdir(), "cardea-office-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  const folder = new SnapshotFolder({ path, open: createBrokerOpener({ cluster, secrets: [secret] }) });
  const disk = new EventArchiveFolder(path);
  const log = parts.log ?? createMemoryLog();
  const writer = await LogWriter.open(log);
  const warnings: string[] = [];
  const note = (_fields: object, message: string): void => void warnings.push(message);
  const logger: Logger = { ...quiet, warn: note, error: note };
  let now = longAfter;
  const shelf = createSnapshotService({
    ...{
      folder,
      log,
      cluster,
      others: parts.others ?? null,
      logger,
      lookMs: 1,
      everyEvents: parts.everyEvents ?? 10,
      retentionMs: parts.retentionMs ?? 0,
    },
    hold: parts.hold ?? "nothing",
    needsPreviousSecret: null,
    archive:
      parts.archive === undefined
        ? null
        : { disk, rules: parts.archive, turn: async () => void (await turn()), now: () => now },
    commandId: () => randomUUID() as string as CommandId,
    turn: async () => void (await turn()),
  });
  const projection = new Projection();
  const epochs: EpochMark[] = [];
  const recorded: number[] = [];
  let needed = Number.MAX_SAFE_INTEGER;

  async function follow(): Promise<void> {
    for (;;) {
      const outcome = await log.read(projection.applied, 1_000);
      assert.ok(outcome.type === "page");
      if (outcome.page.entries.length === 0) return;
      for (const one of decodeEvents(outcome.page.entries, outcome.page.previous)) {
        if (one.event.type === "EpochOpened")
          epochs.push({ epoch: one.epoch, start: one.position, incarnation: one.event.incarnation });
        projection.apply(one);
      }
    }
  }
  return {
    ...{ log, writer, folder, disk, shelf, told: warnings, recorded },
    /** Creates this many sessions. */
    async append(count: number): Promise<Link> {
      for (let n = 0; n < count; n++) assert.equal((await writer.appendEach(aSession())).type, "appended");
      return writer.head;
    },
    nodeNeeds: (position: number) => {
      needed = position;
    },
    at: (time: UnixMs) => {
      now = time;
    },
    async run(signal = new AbortController().signal): Promise<void> {
      await follow();
      const { epoch, incarnation } = writer;
      const context: DutyContext = {
        ...{ signal, projection: projection, now, epochs: () => epochs, leadership: { epoch, incarnation } },
        ...{
          clock: systemClock,
          leads: () => true,
          submitToLeader: () => assert.fail("this duty submits no command to the leader"),
        },
        tokens: async () => undefined,
        profiles: async () => new Map(),
        storedSignalStream: async () => undefined,
        read: () => assert.fail("this duty reads no events"),
        logBase: () => log.base(),
        sealManifest: (manifest) => sealManifest(signer({ secret, cluster, epoch }), manifest),
        neededAfter: () => Math.min(needed, projection.applied.position) as Position,
        async submit({ commandId, command }) {
          assert.ok(command.type === "recordSnapshot");
          recorded.push(command.position);
          return { type: "done", commandId, link: writer.head, changed: true };
        },
      };
      await shelf.duty.run(context);
    },
    begins: async () => (await log.base()).position,
  };
}
