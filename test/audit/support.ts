/** Support for the tests of audit: decisions, scripted sinks, and a recorder over them. */
import { randomBytes } from "node:crypto";
import {
  type AuditBatch,
  type AuditRecord,
  type AuditSink,
  parseLine,
  type RecordSigner,
  toLine,
} from "../../src/audit/index.ts";
import type { DecisionRecord } from "../../src/auth/index.ts";
import { type BootId, type ConfigHash, type Epoch, genesis, type NodeId, type UnixMs } from "../../src/events/index.ts";
import {
  enrolKey,
  enrolmentRoot,
  type Role,
  sealEnvelope,
  signingPairFromSeed,
} from "../../src/replication/wire/index.ts";

export const node = "node-1" as NodeId;
export const boot = "boot-1" as BootId;
export const secret = new Uint8Array(32).fill(9);

/** Signs as a node that was enrolled under a secret. */
export function signerOf(
  of: Readonly<{ cluster: string; node: string; boot: string; secret?: Uint8Array; role?: Role; rootOf?: Role }>,
): RecordSigner {
  const { cluster, role = "proxy" } = of;
  const root = enrolmentRoot(of.secret ?? secret, of.rootOf ?? role);
  const certificate = {
    cluster,
    role,
    name: of.node,
    boot: of.boot as BootId,
    epoch: 0 as Epoch,
    incarnation: "",
  } as const;
  const speaker = enrolKey(certificate, signingPairFromSeed(randomBytes(32)), root);
  return { seal: (payload) => Uint8Array.from(sealEnvelope(speaker, "audit", payload)), secret: of.secret ?? secret };
}

export function decision(path = "/", more: Partial<DecisionRecord> = {}): DecisionRecord {
  return {
    node,
    boot,
    region: "here",
    at: 1_700_000_000_000 as UnixMs,
    occasion: "request",
    requestId: "request-1",
    routeId: "app",
    method: "GET",
    host: "app.example.com",
    path,
    ip: "192.0.2.1",
    sessionId: null,
    userId: null,
    result: "permit",
    status: 200,
    reasons: ["user-ok"],
    applied: genesis,
    configHash: "config" as ConfigHash,
    overdueMs: -1_000,
    ...more,
  };
}

/** The batch that a sink gets for these records. */
export function batchOf(...records: readonly AuditRecord[]): AuditBatch {
  const bytes = Buffer.from(records.map(toLine).join(""));
  return { boot: records[0]?.boot ?? boot, first: records[0]?.seq ?? 0, last: records.at(-1)?.seq ?? 0, bytes };
}

export function recordsIn({ bytes }: AuditBatch): AuditRecord[] {
  return bytes
    .toString()
    .split("\n")
    .flatMap((line) => parseLine(line) ?? []);
}

export type TestSink = AuditSink & {
  readonly written: AuditRecord[];
  readonly batches: (readonly AuditRecord[])[];
  mode: "good" | "failing" | "stuck";
  closed: number;
  /** Releases a stuck write. */
  release(): void;
};

export function testSink(name = "test"): TestSink {
  let stuck = Promise.withResolvers<void>();
  const sink: TestSink = {
    name,
    written: [],
    batches: [],
    mode: "good",
    closed: 0,
    release() {
      stuck.resolve();
      stuck = Promise.withResolvers();
    },
    async write(batch) {
      const records = recordsIn(batch);
      sink.batches.push(records);
      if (sink.mode === "failing") throw new Error("the sink fails");
      if (sink.mode === "stuck") await stuck.promise;
      sink.written.push(...records);
    },
    async close() {
      sink.closed++;
    },
  };
  return sink;
}

/** The numbers that a sink has received, each once: written ones, and those of gaps. */
export function accountOf(
  records: readonly AuditRecord[],
): Readonly<{ decisions: number[]; gaps: [number, number][] }> {
  const decisions: number[] = [];
  const gaps: [number, number][] = [];
  for (const record of records) {
    if (record.kind === "gap") gaps.push([record.first, record.last]);
    else decisions.push(record.seq);
  }
  return { decisions, gaps };
}
