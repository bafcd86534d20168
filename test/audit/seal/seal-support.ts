/** Support for the tests of seals: a node with a real key, and a log that checks and records its seals as a leader. */
import assert from "node:assert/strict";
import type { AuditSink, SealPort, SubmittedSeal } from "../../../src/audit/index.ts";
import { createSealCheck } from "../../../src/broker/api/seal-check.ts";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import {
  auditSealCodesFrom,
  type BootId,
  type CardeaEvent,
  type CommandId,
  type CommandResult,
  commandIdOfEnvelope,
  decodeEvent,
  type Epoch,
  encodeEvent,
  genesis,
  type Link,
  linkOf,
  type NodeId,
  type Position,
  Projection,
  readsLevel,
  streamOf,
  type UnixMs,
} from "../../../src/events/index.ts";
import {
  enrolKey,
  enrolmentRoot,
  nodeKeyFrom,
  sealEnvelope,
  sealSignersOpener,
} from "../../../src/replication/wire/index.ts";
import { commandTools } from "../../broker/commands/command-tools.ts";
import { eventId } from "../../events/support.ts";
import { secret, node as testNode } from "../support.ts";

export const cluster = "prod";

export type TestSigner = Readonly<{ node: NodeId; boot: BootId; sign: (payload: Uint8Array) => Uint8Array }>;

let seeds = 0;

/** A boot of a node, with its own key. */
export function signerOfNode(node: string = testNode, of: Readonly<{ secret?: Uint8Array }> = {}): TestSigner {
  const name = node as NodeId;
  const key = nodeKeyFrom(Buffer.alloc(32, `seed ${seeds++} `), { cluster, role: "proxy", name });
  const speaker = enrolKey(
    { cluster, role: "proxy", name, boot: key.boot, epoch: 0 as Epoch, incarnation: "" },
    key.pair,
    enrolmentRoot(of.secret ?? secret, "proxy"),
  );
  return {
    node: name,
    boot: key.boot,
    sign: (payload) => Uint8Array.from(sealEnvelope(speaker, "audit-seal", payload)),
  };
}

export type Entry = Readonly<{ previous: Link; bytes: Uint8Array }>;

/** A log that holds seals, as a broker records them. */
export class SealLog {
  projection = new Projection();
  entries: Entry[] = [];
  readonly #refuse = createSealCheck(sealSignersOpener(cluster, [secret]));
  /** What happens to the next answers: `lost`: recorded, but the answer does not arrive; `down`: not recorded. */
  script: ("lost" | "down")[] = [];
  refusals: string[] = [];
  isReady = true;
  /** Boots that send nothing any more. */
  readonly killed = new Set<BootId>();

  constructor(level: number = readsLevel) {
    if (level > 1) this.record({ type: "UpgradeFinalized", level }, null);
  }

  record(event: CardeaEvent, cause: CommandId | null): void {
    const previous = this.projection.applied;
    const position = (previous.position + 1) as Position;
    const stream = streamOf(event);
    const bytes = encodeEvent({
      ...{ epoch: 1 as Epoch, position, eventId: eventId(position), stream, version: position },
      ...{ recordedAt: (1_700_000_000_000 + position) as UnixMs, actor: "system", cause, event },
    });
    this.projection.apply(decodeEvent(bytes, previous));
    this.entries.push({ previous, bytes });
  }

  submit(envelope: Uint8Array, commandId = commandIdOfEnvelope(envelope)): CommandResult["type"] {
    const command = { type: "sealAuditSegment", envelope } as const;
    const request = { commandId, actor: "system", command };
    const refusal = this.#refuse(request);
    const performed =
      refusal === undefined ? performCommand(this.projection, request, commandTools(1 as UnixMs)) : null;
    if (performed === null || performed.type === "refused") {
      this.refusals.push(refusal ?? (performed?.type === "refused" ? performed.message : ""));
      return "refused";
    }
    if (performed.type === "changes") for (const event of performed.changes.events) this.record(event, commandId);
    return "done";
  }

  get seals(): readonly Entry[] {
    return this.entries.filter(({ previous, bytes }) => decodeEvent(bytes, previous).type === "AuditSegmentSealed");
  }

  /** As a failover without the newest events. */
  loseAfter(count: number): void {
    const kept = this.entries.slice(0, count);
    this.projection = new Projection();
    this.entries = [];
    let at: Link = genesis;
    for (const { bytes } of kept) {
      const recorded = decodeEvent(bytes, at);
      this.projection.apply(recorded);
      this.entries.push({ previous: at, bytes });
      at = linkOf(recorded);
    }
  }

  port({ node, boot: own, sign }: TestSigner): SealPort {
    return {
      sign,
      isCoded: () => this.projection.level >= auditSealCodesFrom,
      isReady: () => this.isReady && !this.killed.has(own),
      headOf: (boot) => {
        const head = this.projection.auditSeals.head(node, boot);
        return head === undefined
          ? undefined
          : { size: head.last, root: Buffer.from(head.root, "hex"), final: head.final };
      },
      submit: async (envelope): Promise<SubmittedSeal> => {
        const next = this.script.shift();
        if (next === "down") return "unavailable";
        const type = this.submit(envelope);
        if (next === "lost" || type === "unavailable") return "unavailable";
        return type;
      },
    };
  }
}

/** A sink that keeps the exact bytes, line by line. */
export function lineSink(name = "lines"): AuditSink & { readonly lines: string[] } {
  const lines: string[] = [];
  return {
    name,
    lines,
    async write({ bytes }) {
      lines.push(...bytes.toString("utf8").split("\n").slice(0, -1));
    },
    close: async () => undefined,
  };
}

export function only<T>(list: readonly T[]): T {
  assert.equal(list.length, 1);
  return list[0] as T;
}
