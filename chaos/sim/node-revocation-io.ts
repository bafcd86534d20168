/**
 * Revocation I/O of one boot of a simulated node: it reads what its region revoked by itself, keeps that on its disk,
 * and submits what the log does not show. The product's node core decides.
 */
import type { CommandResult } from "../../src/events/index.ts";
import { denialsAnswer, mergeAnswer } from "../../src/replication/node/broker-answers.ts";
import type { NodeEffect } from "../../src/replication/node/index.ts";
import type { DenialsAnswer } from "../../src/replication/node/messages.ts";
import {
  createBrokerOpener,
  deniedStreams,
  type EnvelopeOpener,
  revocationKey,
  type SealedRevocation,
} from "../../src/replication/wire/index.ts";
import type { RevocationLimit } from "./actors.ts";
import type { WireDenials } from "./broker-port.ts";
import { type CopyDriver, callMs } from "./copy-driver.ts";
import type { SimProcess } from "./process.ts";
import { viewOf } from "./revocation-view.ts";
import type { World } from "./world.ts";

export type RevocationDisk = {
  /** The local revocations of the node's region. */
  local: readonly SealedRevocation[];
  limit: RevocationLimit;
};

export type NodeRevocationParts = Readonly<{
  world: World;
  process: SimProcess;
  disk: RevocationDisk;
  driver: CopyDriver;
  cluster: string;
  secret: Uint8Array;
}>;

type Effect<Type extends NodeEffect["type"]> = Extract<NodeEffect, { type: Type }>;
export type RevocationEffect = Effect<"readDenials" | "keepLocalDenials" | "submitRevocation">;

const writeMs = [0.5, 4] as const;
const noAnswer = { type: "failed", error: new Error("no broker answers") } as const;

export class NodeRevocationIo {
  readonly #parts: NodeRevocationParts;
  readonly #open: EnvelopeOpener;
  /** Keys of the page that the core is handling. */
  #arriving: readonly string[] = [];

  constructor(parts: NodeRevocationParts) {
    this.#parts = parts;
    this.#open = createBrokerOpener({ cluster: parts.cluster, secrets: [parts.secret] });
  }

  perform(effect: RevocationEffect): void {
    switch (effect.type) {
      case "readDenials":
        this.#read(effect);
        return;
      case "keepLocalDenials":
        this.#keep(effect);
        return;
      case "submitRevocation":
        this.#submit(effect);
    }
  }

  /** The revocations that the change in hand enforces. */
  takeArriving(): readonly string[] {
    const arriving = this.#arriving;
    this.#arriving = [];
    return arriving;
  }

  #reportArrived(keys: readonly string[]): void {
    const { driver } = this.#parts;
    for (const key of keys) driver.report({ type: "revocation-arrived", ...driver.here(), key });
  }

  /** A new boot holds what is on its disk, and no exchange is open yet. */
  begin(): void {
    const keys = this.#parts.disk.local.map(({ revocation }) => revocationKey(revocation));
    this.#reportArrived(keys);
    this.reportEnforced(keys);
  }

  /** This boot denies what they deny, and no open exchange carries it. */
  reportEnforced(keys: readonly string[]): void {
    const { driver } = this.#parts;
    for (const key of keys) driver.report({ type: "revocation-enforced", ...driver.here(), key });
  }

  #read({ id, after, waitMs }: Effect<"readDenials">): void {
    const { driver, process, disk } = this.#parts;
    driver.call<WireDenials>(id, {
      timeoutMs: waitMs + callMs.readGrace,
      ask: (broker, reply) => broker.denials({ after, waitMs }, reply),
      isUnavailable: ({ type }) => type === "unavailable",
      done: (answer) => {
        const isTaken = answer !== undefined && answer.type !== "unavailable" && disk.limit !== "none taken";
        const opened = isTaken ? denialsAnswer(answer, this.#open) : noAnswer;
        const sealed = opened.type === "page" ? opened.sealed : [];
        this.#arriving = sealed.map(({ revocation }) => revocationKey(revocation));
        this.#reportArrived(this.#arriving);
        driver.feed({ type: "denialsAnswered", id, answer: opened, at: process.moment() });
        // Those that changed nothing were in force before.
        const left = new Set(this.takeArriving());
        this.reportEnforced(this.#deniedOf(opened).filter((key) => left.has(key)));
      },
    });
  }

  #deniedOf(answer: DenialsAnswer): readonly string[] {
    const { core } = this.#parts.driver;
    const sealed = answer.type === "page" ? answer.sealed : [];
    return sealed
      .filter(({ revocation }) => deniedStreams(revocation).every((stream) => core.isDeniedByRegion(stream)))
      .map(({ revocation }) => revocationKey(revocation));
  }

  #keep({ id, sealed }: Effect<"keepLocalDenials">): void {
    const { world, process, disk, driver } = this.#parts;
    const ms = world.random(`revocations/${process.name}`).within(writeMs[0], writeMs[1]);
    process.after(ms, () => {
      const outcome = disk.limit === "none" ? "kept" : "failed";
      if (outcome === "kept") this.#replace(sealed);
      driver.feed({ type: "localDenialsKept", id, outcome, at: process.moment() });
    });
  }

  #replace(sealed: readonly SealedRevocation[]): void {
    const { disk, driver } = this.#parts;
    const before = new Set(disk.local.map(({ revocation }) => revocationKey(revocation)));
    disk.local = sealed;
    for (const each of sealed) {
      if (before.delete(revocationKey(each.revocation))) continue;
      driver.report({ type: "revocation-stored", ...driver.at(), revocation: viewOf(each), place: null });
    }
    for (const key of before) driver.report({ type: "revocation-dropped", ...driver.at(), key });
  }

  #submit({ id, commandId, sealed }: Effect<"submitRevocation">): void {
    const { driver, process } = this.#parts;
    const { actor } = sealed.revocation;
    const request = { commandId, actor, command: { type: "mergeRevocation", envelope: sealed.envelope } } as const;
    driver.call<CommandResult>(id, {
      timeoutMs: callMs.submit,
      ask: (broker, reply) => broker.submit(request, reply),
      isUnavailable: ({ type }) => type === "unavailable",
      done: (result) => {
        if (result?.type === "done") {
          const key = revocationKey(sealed.revocation);
          driver.report({ type: "merge-answered", ...driver.at(), key, link: result.link });
        }
        const answer = result === undefined ? ({ type: "failed" } as const) : mergeAnswer(result);
        driver.feed({ type: "revocationSubmitted", id, answer, at: process.moment() });
      },
    });
  }
}
