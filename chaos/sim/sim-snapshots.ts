/**
 * Simulated snapshots: drives the product's snapshot run and its builder in one boot of a broker.
 *
 * - Slices of the build and disk writes take simulated time. Meanwhile batches are folded, the leader is deposed or the
 *   process ends.
 * - The disk sometimes fails.
 */
import type { DutyRun } from "../../src/broker/core/messages.ts";
import type { SnapshotEffect, SnapshotInput, SnapshotRules } from "../../src/broker/snapshots/snapshot-messages.ts";
import { newSnapshotRun, nothingRemembered, stepSnapshotRun } from "../../src/broker/snapshots/snapshot-run.ts";
import type { BrokerState } from "../../src/broker/state/broker-state.ts";
import {
  type CommandId,
  type CommandRequest,
  type CommandResult,
  decodeEvents,
  type Link,
  type Position,
  type Projection,
} from "../../src/events/index.ts";
import { hashOfChunk, type SnapshotManifest } from "../../src/replication/snapshot/index.ts";
import type { BrokerReporter } from "./broker-reporter.ts";
import type { SimProcess } from "./process.ts";
import { load } from "./saved-projection.ts";
import type { SimLog } from "./sim-log.ts";
import type { BrokerSave, SnapshotDisk } from "./snapshot-disk.ts";
import type { World } from "./world.ts";

export type SimSnapshotsParts = Readonly<{
  world: World;
  process: SimProcess;
  log: SimLog;
  disk: SnapshotDisk;
  cluster: string;
  rules: Readonly<SnapshotRules>;
  ledger: () => BrokerState;
  neededAfter: () => Position;
  submit: (run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void) => void;
  ended: (run: DutyRun, outcome: "done" | "failed") => void;
  reporter: BrokerReporter;
}>;

/** Entities per slice: few, so that a snapshot takes a second or more. */
const entitiesATurn = 2;
const sliceMs = [1, 8] as const;
const diskMs = [2, 60] as const;
/** Share of disk operations that fail. */
const diskFails = 0.01;
const full = new Error("the disk is full");
const notWhole = new Error("a chunk does not match its hash");

export class SimSnapshots {
  readonly #parts: SimSnapshotsParts;
  readonly #random: ReturnType<World["random"]>;
  #memory = nothingRemembered;
  #wanted = 0;
  /** Cancels the current run. Only one runs at a time. */
  #cancel: (() => void) | undefined;

  constructor(parts: SimSnapshotsParts) {
    this.#parts = parts;
    this.#random = parts.world.random(`snapshots/${parts.process.name}`);
  }

  /** Requests a snapshot at this position or later, as soon as the duty runs. */
  requestSnapshot(position: Position): void {
    this.#wanted = Math.max(this.#wanted, position);
  }

  end(): void {
    this.#cancel?.();
  }

  run(run: DutyRun): void {
    const { cluster, rules, process, reporter } = this.#parts;
    const ledger = this.#parts.ledger().projection;
    const chunks = new Map<string, Uint8Array>();
    const held = rules.hold === "everything";
    const parts = { cluster, entitiesATurn, rules: { ...rules }, memory: this.#memory, now: process.moment().wall };
    let state = newSnapshotRun(parts);
    const feed = (input: SnapshotInput): void => {
      const [next, effects] = stepSnapshotRun(state, input);
      state = next;
      for (const effect of effects) {
        if (effect.type !== "over") this.#perform(run, effect, { feed, ledger, chunks, held });
        else {
          this.#memory = state.memory;
          this.#cancel = undefined;
          if (effect.failure !== null)
            reporter.report({ type: "snapshot-given-up", ...reporter.at(), reason: String(effect.failure.cause) });
          this.#parts.ended(run, effect.failure === null ? "done" : "failed");
        }
      }
    };
    this.#cancel = () => feed({ type: "cancelled" });
    feed({ type: "begin" });
  }

  #perform(
    run: DutyRun,
    effect: Exclude<SnapshotEffect, { type: "over" }>,
    at: Readonly<{
      feed: (input: SnapshotInput) => void;
      ledger: Projection;
      chunks: Map<string, Uint8Array>;
      held: boolean;
    }>,
  ): void {
    const { disk, log, reporter, process } = this.#parts;
    const { feed, ledger, chunks } = at;
    const answered =
      <T>(input: (value: T) => SnapshotInput) =>
      (value: T | Error): void =>
        feed(value instanceof Error ? { type: "failed", cause: value } : input(value));
    switch (effect.type) {
      case "listSnapshots":
        disk.inLog(answered((snapshots: readonly BrokerSave[]) => this.#looked(snapshots, ledger)));
        return;
      case "readChunk":
        this.#onDisk(
          () => feed(disk.readChunk(effect.ref.hash) ? { type: "chunkRead" } : { type: "chunkBad", cause: notWhole }),
          (cause) => feed({ type: "chunkBad", cause }),
        );
        return;
      case "capture": {
        const capture = ledger.capture();
        reporter.report({ type: "snapshot-begun", ...reporter.at(), link: capture.link });
        const at = process.moment().wall;
        feed({ type: "captured", capture, epochs: this.#parts.ledger().epochs, level: ledger.level, at });
        return;
      }
      case "build":
        process.after(this.#random.within(...sliceMs), () => feed({ type: "turn" }));
        return;
      case "store": {
        const { index } = effect;
        const bytes = Uint8Array.from(effect.bytes);
        const ref = { hash: hashOfChunk(bytes), bytes: bytes.length };
        chunks.set(ref.hash, bytes);
        this.#onDisk(
          () => {
            disk.putChunk(ref.hash);
            feed({ type: "stored", index, ref });
          },
          (cause) => feed({ type: "notStored", cause }),
        );
        return;
      }
      case "save":
        this.#onDisk(() => {
          const saved = saveOf(effect.manifest, chunks, run);
          disk.put(saved);
          const { link, id } = saved;
          reporter.report({ type: "snapshot-built", ...reporter.at(), link, digest: digestOf(saved), id });
          feed({ type: "saved", id });
        }, answered(never));
        return;
      case "tidy":
        disk.tidy((failure) => feed(failure === null ? { type: "tidied" } : { type: "failed", cause: failure }));
        return;
      case "recordSnapshot": {
        const { position, manifestHash } = effect;
        const command = { type: "recordSnapshot", position, manifestHash } as const;
        const request = { commandId: this.#random.uuid() as CommandId, actor: "system", command } as const;
        this.#parts.submit(run, request, (result) => feed({ type: "snapshotRecorded", result }));
        return;
      }
      case "readBase":
        log.base(answered((base: Link) => ({ type: "base", base })));
        return;
      case "readAge":
        this.#age(
          effect.position,
          answered((input: SnapshotInput) => input),
        );
        return;
      case "retain": {
        const { epoch, incarnation } = run;
        const { first, holding } = effect;
        const saves = disk.saves.map((saved) => ({ link: saved.link, whole: disk.isWhole(saved) }));
        reporter.report({ type: "retain-asked", ...reporter.at(), first, held: at.held, saves });
        log.retain({ epoch, incarnation, first, holding }, (outcome) => {
          process.after(this.#random.within(...sliceMs), () => feed({ type: "retained", outcome }));
        });
        return;
      }
      case "logger":
        this.#parts.world.note(process.name, `${effect.level}: ${effect.message}`);
    }
  }

  #looked(snapshots: readonly BrokerSave[], ledger: Projection): SnapshotInput {
    const { applied, guessed } = ledger;
    return {
      ...{ type: "snapshotsListed", snapshots, wanted: this.#wanted, guessed: guessed !== undefined },
      ...{ applied: applied.position, neededAfter: this.#parts.neededAfter(), archivedUpTo: null },
    };
  }

  #age(position: Position, answered: (input: SnapshotInput | Error) => void): void {
    const { log } = this.#parts;
    log.linkAt((position - 1) as Position, (previous) => {
      if (previous instanceof Error) return answered(previous);
      if (previous === undefined) return answered({ type: "age", recordedAt: undefined });
      log.read(previous, 1, (outcome) => {
        if (outcome instanceof Error) return answered(outcome);
        const entries = outcome.type === "page" ? outcome.page.entries.slice(0, 1) : [];
        answered({ type: "age", recordedAt: decodeEvents(entries, previous)[0]?.recordedAt });
      });
    });
  }

  #onDisk(done: () => void, failed: (cause: Error) => void): void {
    const fails = this.#random.chance(diskFails);
    this.#parts.process.after(this.#random.within(...diskMs), () => (fails ? failed(full) : done()));
  }
}

function never(value: never): never {
  return value;
}

/** Builds the saved form. Simulated snapshots are unsigned; the id covers the position, the time and the duty run. */
function saveOf(manifest: SnapshotManifest, chunks: ReadonlyMap<string, Uint8Array>, run: DutyRun): BrokerSave {
  const { link, digest, level, counts, epochs } = manifest;
  const id = hashOfChunk(Buffer.from(JSON.stringify([manifest.link, manifest.takenAt, run])));
  const bytes = manifest.chunks.map(({ hash }) => chunks.get(hash) ?? new Uint8Array());
  return { id, manifest, link, digest, level, counts, chunks: bytes, epochs: [...epochs], retained: [] };
}

/** The digest recomputed from the chunks, independent of the manifest's digest. */
function digestOf(saved: BrokerSave): string {
  try {
    return load(saved).projection.recomputedDigest();
  } catch (error) {
    return `unreadable: ${String(error)}`;
  }
}
