/** Contract of the stored configurations beside the log, which memory, SQLite and Postgres pass alike. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import {
  type ConfigHash,
  configBodiesMax,
  configTextOf,
  genesis,
  type NodeId,
  type Position,
  packConfigBody,
  type StoredConfiguration,
  type UnixMs,
} from "../../src/events/index.ts";
import type { EventLog } from "../../src/replication/log/index.ts";
import { aSession, LogWriter } from "../support/log-writer.ts";
import type { LogHarness } from "./event-log.ts";

export function aConfiguration(text: string, recordedAt = 1_700_000_000_123): StoredConfiguration {
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  return { configHash, body: packConfigBody(text), recordedAt: recordedAt as UnixMs };
}

const activated = ({ configHash }: StoredConfiguration, node = "proxy-1") =>
  ({ type: "ConfigurationActivated", nodeId: node as NodeId, configHash }) as const;

async function textIn(log: EventLog, { configHash }: StoredConfiguration): Promise<string | undefined> {
  const stored = await log.configuration(configHash);
  return stored && configTextOf(stored.body);
}

export function describeConfigurations(name: string, make: () => Promise<LogHarness>): void {
  describe(`${name} log, its stored configurations`, () => {
    const withLog = (promise: string, body: (log: EventLog, harness: LogHarness) => Promise<void>): void => {
      test(promise, async () => {
        const harness = await make();
        try {
          await body(harness.log, harness);
        } finally {
          await harness.close();
        }
      });
    };

    withLog("a body is stored with its event, once for each hash, and survives a restart", async (log, harness) => {
      const writer = await LogWriter.open(log);
      const [one, two] = [aConfiguration('{"a":1}', 1_700_000_000_123), aConfiguration('{"a":2}', 1_700_000_000_456)];
      assert.equal(await log.configuration(one.configHash), undefined);
      assert.deepEqual(await log.configurations(), []);

      await writer.append([{ events: [activated(two)] }], { configurations: [two] });
      await writer.append([{ events: [activated(one)] }, { events: [activated(one, "proxy-2")] }], {
        configurations: [one, { ...one, recordedAt: 1_800_000_000_000 as UnixMs }],
      });
      await writer.append([{ events: [activated(one, "proxy-3")] }], {
        configurations: [{ ...one, body: packConfigBody("another"), recordedAt: 1_900_000_000_000 as UnixMs }],
      });

      const store = (await harness.reopen?.()) ?? log;
      assert.equal(await textIn(store, one), '{"a":1}', "the first body stays");
      assert.equal((await store.configuration(one.configHash))?.recordedAt, one.recordedAt);
      const infos = [one, two].map(({ configHash, recordedAt, body }) => ({
        configHash,
        recordedAt,
        bytes: body.length,
      }));
      assert.deepEqual(await store.configurations(), infos);
    });

    withLog("nothing is stored with a refused batch", async (log) => {
      const writer = await LogWriter.open(log);
      const stale = writer.fork();
      await writer.appendEach(aSession());
      const configuration = aConfiguration('{"b":1}');
      const refused = await stale.append([{ events: [activated(configuration)] }], { configurations: [configuration] });
      assert.equal(refused.type, "head-moved");
      await LogWriter.open(log);
      const fenced = await writer.append([{ events: [activated(configuration)] }], { configurations: [configuration] });
      assert.equal(fenced.type, "fenced");
      assert.equal(await log.configuration(configuration.configHash), undefined);
    });

    withLog("retention drops events, but never a stored configuration", async (log) => {
      const writer = await LogWriter.open(log);
      const configuration = aConfiguration('{"c":1}');
      await writer.append([{ events: [activated(configuration)] }], { configurations: [configuration] });
      for (let n = 0; n < 20; n++) await writer.appendEach(aSession());
      await writer.beat();
      const { epoch, incarnation, head } = writer;
      for (;;) {
        const outcome = await log.retain({ epoch, incarnation, first: head.position });
        assert.equal(outcome.type, "retained");
        if (outcome.type !== "retained" || !outcome.more) break;
      }
      assert.equal(await textIn(log, configuration), '{"c":1}');
    });
  });
}

/** Parts that the simulator's model lacks: a limit, and a restore step by step. */
export function describeConfigurationStore(name: string, make: () => Promise<LogHarness>): void {
  describe(`${name} log, limits and restore of stored configurations`, () => {
    const withLog = (promise: string, body: (log: EventLog) => Promise<void>): void => {
      test(promise, async () => {
        const harness = await make();
        try {
          await body(harness.log);
        } finally {
          await harness.close();
        }
      });
    };

    withLog("above the limit of stored configurations, a batch is written without its bodies", async (log) => {
      const writer = await LogWriter.open(log);
      const all = Array.from({ length: configBodiesMax }, (_, n) => aConfiguration(`{"n":${n}}`, n));
      const last = aConfiguration("{}", configBodiesMax);
      for (let at = 0; at < all.length; at += 2_500)
        assert.equal(
          (await writer.append([{ events: [aSession()] }], { configurations: all.slice(at, at + 2_500) })).type,
          "appended",
        );
      assert.equal((await writer.append([{ events: [activated(last)] }], { configurations: [last] })).type, "appended");
      assert.equal(await log.configuration(last.configHash), undefined);
      assert.equal((await log.configurations()).length, configBodiesMax);
    });

    withLog("configurations restored from an old log are in the new one", async (log) => {
      const configuration = aConfiguration('{"d":1}');
      const base = { ...genesis, epoch: 3, position: 40 as Position, hash: "ab".repeat(32) } as typeof genesis;
      await log.restore({ type: "begin", base, epochs: [] });
      await log.restore({ type: "configurations", configurations: [configuration, configuration] });
      assert.deepEqual((await LogWriter.open(log)).epoch, 4);
      assert.equal(await textIn(log, configuration), '{"d":1}');
      assert.equal((await log.configuration(configuration.configHash))?.recordedAt, configuration.recordedAt);
    });
  });
}
