/**
 * Audit sealer: hashes the records of this node from its spool, boot by boot, and has the roots sealed into the log
 * (docs/adr/0057). Pure, apart from the disk, clock, timer and port that it is given.
 *
 * - It reads the spool like a sink, behind the request path, with a cursor of its own. Its position and its trees are
 *   one file, replaced as a whole, so a crash repeats work and never changes a root.
 * - A seal is stored before it is sent, and is sent again, unchanged, until the log has it or another one.
 * - seal-schedule.ts says when a seal is due. What an earlier boot left is sealed at once.
 * - If the log has another root for numbers that this node has hashed, it seals nothing more of that boot, and reports
 *   it.
 */
import { type BootId, CodedError, type NodeId } from "../../events/index.ts";
import { type AuditSeal, codeLeavesMax, encodeAuditSeal, readAuditSeal } from "../../replication/wire/index.ts";
import {
  type CursorBatch,
  type Sleep,
  SpoolCursor,
  type SpoolDisk,
  type SpoolPosition,
  type SpoolStore,
  spoolStart,
} from "../spool/index.ts";
import { BootTree, emptyHead } from "./boot-tree.ts";
import { leafTextByRuns, leafTextOf, lengthByRuns } from "./record-leaf.ts";
import type { SealPort } from "./seal-port.ts";
import { SealSchedule } from "./seal-schedule.ts";
import type { TreeHead } from "./sealed-heads.ts";
import { parseSealerState, type SealerState, writeSealerState } from "./sealer-state.ts";

export type SealerStats = Readonly<{
  /** Numbers of this boot that were hashed and that no seal covers yet. */
  unsealed: number;
  /** Seals that the log does not have yet. */
  pending: number;
  /** Seals that the log has, since the start. */
  sealed: number;
  /** Boots for which the log has another root than this node. */
  forks: number;
  /** Records that no seal will ever cover, since the start: the spool gave them up before they were hashed. */
  unhashed: number;
}>;

export class AuditUnhashedError extends CodedError<"ERR_AUDIT_UNHASHED"> {
  override readonly code = "ERR_AUDIT_UNHASHED";
  constructor(boot: BootId, { first, last }: Readonly<{ first: number; last: number }>) {
    super(
      `the spool gave up the audit records ${first} to ${last} of ${boot} before they were hashed: no seal will cover them, and the next one says so`,
    );
  }
}

export class AuditForkedError extends CodedError<"ERR_AUDIT_FORKED"> {
  override readonly code = "ERR_AUDIT_FORKED";
  constructor(boot: BootId, size: number) {
    super(
      `the log has another root than this node for the audit records 1 to ${size} of ${boot}: the spool was changed, or another process has sealed in this node's name`,
    );
  }
}

export type SealerOptions = Readonly<{
  node: NodeId;
  boot: BootId;
  store: SpoolStore;
  disk: SpoolDisk;
  cursor: Omit<ConstructorParameters<typeof SpoolCursor>[1], "position" | "disk">;
  port: SealPort;
  everyMs: number;
  /** A segment of more records is sealed although earlier seals still wait for the log (leaf-code.ts). */
  longRecords?: number;
  /** A seal of many records ends at a multiple of this number, so that its marks are nodes of the tree. */
  stepRecords?: number;
  nowMs: () => number;
  monotonicMs: () => number;
  sleep: Sleep;
  onFailure: (error: unknown) => void;
  /** Called after the stored position changed. */
  onStored: () => void;
}>;

/** With so many seals that wait for the log, a long segment grows on. */
const waitingMax = 16;
const storeEveryMs = 5_000;
const retryMsFirst = 1_000;
const retryMsMax = 30_000;
const idleMsMax = 1_000;
const gatherMs = 50;
/** A batch of this size is followed by the next without a pause. */
const fullBatchBytes = 256 * 1_024;
/** So many lines are hashed without a pause: about a millisecond. */
const sliceLines = 256;
const stepRecordsDefault = 4_096;
/** A seal of fewer steps ends anywhere, as does one that has been due for so long. */
const [stepsLeast, stepMsMax] = [8, 2_000];
/**
 * With so many seals of at most 10 KB that wait for the log, reading waits, too, and then the spool fills. Each boot
 * leaves one while the log accepts none, such as before an upgrade is finalized.
 */
const pendingMax = 64;
/** The log has had another seal than the one that a pending seal continues, so often in a row. */
const strangeMax = 3;

export class AuditSealer {
  readonly #options: SealerOptions;
  #cursor: SpoolCursor;
  #position: SpoolPosition;
  #stored: SpoolPosition;
  #storedAt = Number.NEGATIVE_INFINITY;
  #storedPending = 0;
  #tree: BootTree | null;
  /** Envelopes, oldest first. */
  readonly #pending: Uint8Array[];
  readonly #schedule: SealSchedule;
  /** Since when a seal has been due; null: none is. */
  #dueAt: number | null = null;
  #sending: Promise<void> | null = null;
  #retryAt = Number.NEGATIVE_INFINITY;
  #retryMs = retryMsFirst;
  #strange = 0;
  /** The newest seal of a boot that the log has acknowledged; this node may not have read it yet. */
  #acknowledged: Readonly<{ boot: BootId; head: TreeHead & Readonly<{ final: boolean }> }> | null = null;
  #counts = { sealed: 0, forks: 0, unhashed: 0 };
  #failing = false;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  /** Continues where the process last ended. */
  static async open(options: SealerOptions): Promise<AuditSealer> {
    return new AuditSealer(options, parseSealerState(await options.disk.readSmall(stateName)));
  }

  private constructor(options: SealerOptions, state: SealerState | undefined) {
    this.#options = options;
    options.store.passIndex((state?.position.index ?? 0) - 1);
    this.#position = state?.position ?? options.store.joinPosition;
    this.#stored = state?.position ?? spoolStart;
    this.#tree = state?.tree == null ? null : BootTree.from(state.tree);
    this.#pending = [...(state?.pending ?? [])];
    this.#storedPending = this.#pending.length;
    const { boot, everyMs, monotonicMs } = options;
    this.#schedule = new SealSchedule({ boot, everyMs, nowMs: monotonicMs() });
    this.#cursor = this.#openCursor();
    this.#running = this.#run();
  }

  /** What is hashed, by the file on disk. */
  get position(): SpoolPosition {
    return this.#stored;
  }

  stats(): SealerStats {
    return { unsealed: this.#tree?.unsealed ?? 0, pending: this.#pending.length, ...this.#counts };
  }

  /** Seals what the spool has, for at most this long. What is left is sealed by the next boot. */
  async close(timeoutMs: number): Promise<void> {
    const { monotonicMs, sleep } = this.#options;
    const until = monotonicMs() + timeoutMs;
    this.#stop.abort();
    const done = this.#running.then(() => this.#finish(until));
    const timeUp = new AbortController();
    await Promise.race([done, sleep(timeoutMs, timeUp.signal).catch(() => undefined)]);
    timeUp.abort();
    await this.#cursor.close().catch(() => undefined);
  }

  #openCursor(): SpoolCursor {
    const { store, disk, cursor } = this.#options;
    return new SpoolCursor(store, { ...cursor, disk, position: this.#position, hasRuns: true });
  }

  async #run(): Promise<void> {
    const { store, sleep } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const { changed } = store;
      const batch = await this.#step();
      if (batch === null) await sleep(idleMsMax, signal).catch(() => undefined);
      else if (batch === undefined) await this.#until(changed);
      else if (batch.bytes.length < fullBatchBytes) await sleep(gatherMs, signal).catch(() => undefined);
    }
  }

  /** @returns what was hashed; undefined: nothing was there; null: something failed, and was reported */
  async #step(): Promise<CursorBatch | undefined | null> {
    try {
      const batch = this.#pending.length >= pendingMax ? undefined : await this.#cursor.next();
      if (batch === undefined)
        this.#position = this.#cursor.position; // past frames without records
      else await this.#hash(batch);
      if (this.#isDueHere()) await this.#make({ final: false });
      else if (this.#hasNews() && this.#options.monotonicMs() - this.#storedAt >= storeEveryMs) await this.#store();
      this.#send();
      this.#failing = false;
      return batch;
    } catch (error) {
      this.#report(error);
      await this.#cursor.close().catch(() => undefined);
      this.#cursor = this.#openCursor(); // what could not be hashed is read again
      return null;
    }
  }

  async #hash(batch: CursorBatch): Promise<void> {
    const { boot, bytes, records } = batch;
    const first = records > 0 ? batch.first : (JSON.parse(bytes.toString("utf8")) as { first: number }).first;
    const tree = await this.#treeOf(boot, first);
    if (batch.wasStored === true) this.#passUnhashed(tree, batch.last);
    else if (records === 0) tree.appendLost(batch.last);
    else if (tree.state === "reading") {
      tree.appendLost(first - 1);
      await this.#hashLines(tree, batch);
    }
    if (tree.state === "forked") this.#reportFork(tree);
    this.#position = batch.after;
  }

  async #hashLines(tree: BootTree, { boot, bytes, runs }: CursorBatch): Promise<void> {
    for (let from = 0, line = 0; from < bytes.length; line++) {
      const length = runs === undefined ? 0 : lengthByRuns(runs, line);
      const end = length === 0 ? bytes.indexOf(0x0a, from) + 1 : from + length;
      const isKnown = runs !== undefined && length > 0;
      const leaf = isKnown ? leafTextByRuns(bytes, { from, runs, line }) : leafTextOf(bytes.subarray(from, end));
      if (leaf === "not-a-record") tree.appendLost(tree.size + 1);
      else tree.appendText(leaf);
      from = end;
      const isStep = tree.size % this.#stepRecords === 0 && this.#isLarge(tree);
      if (isStep && this.#position.boot === boot && this.#isDue()) {
        this.#position = { ...this.#position, next: tree.size + 1 }; // within the batch
        await this.#make({ final: false });
      }
      if (line % sliceLines === sliceLines - 1) await this.#options.sleep(0);
    }
  }

  #passUnhashed(tree: BootTree, last: number): void {
    if (tree.state !== "reading") return;
    const first = tree.size + 1;
    const count = tree.appendUnhashed(last);
    if (count === 0) return;
    this.#counts.unhashed += count;
    this.#options.onFailure(new AuditUnhashedError(tree.boot, { first, last }));
  }

  /** The tree of a boot. What the boot before it left is sealed. */
  async #treeOf(boot: BootId, first: number): Promise<BootTree> {
    const before = this.#tree;
    if (before?.boot === boot) return before;
    if (before?.hasNews({ final: true }) === true) await this.#make({ final: true });
    const tree = new BootTree(boot);
    if (first > 1) tree.state = "stopped"; // sinks had its first records before this build ran
    this.#tree = tree;
    return tree;
  }

  #hasNews(): boolean {
    return this.#position !== this.#stored || this.#pending.length !== this.#storedPending;
  }

  #isDue(): boolean {
    const { longRecords = codeLeavesMax / 2, monotonicMs } = this.#options;
    const unsealed = this.#tree?.unsealed ?? 0;
    const isLong = unsealed >= longRecords && this.#pending.length < waitingMax;
    return (this.#pending.length === 0 || isLong) && this.#schedule.isDue(monotonicMs(), unsealed);
  }

  get #stepRecords(): number {
    return this.#options.stepRecords ?? stepRecordsDefault;
  }

  /** Whether a seal should end at a multiple of the step. */
  #isLarge(tree: BootTree): boolean {
    return tree.unsealed >= stepsLeast * this.#stepRecords;
  }

  /** Whether a seal is due and need not wait for a multiple of the step. */
  #isDueHere(): boolean {
    const at = this.#options.monotonicMs();
    this.#dueAt = this.#isDue() ? (this.#dueAt ?? at) : null;
    if (this.#dueAt === null || this.#tree === null) return false;
    return !this.#isLarge(this.#tree) || this.#tree.size % this.#stepRecords === 0 || at - this.#dueAt >= stepMsMax;
  }

  /** The seal is stored before it can be sent. */
  async #make({ final }: Readonly<{ final: boolean }>): Promise<void> {
    const { node, port, nowMs, monotonicMs } = this.#options;
    if (this.#tree === null) return;
    const seal = this.#tree.seal(node, { atMs: nowMs(), final, coded: port.isCoded() });
    this.#pending.push(port.sign(encodeAuditSeal(seal)));
    this.#schedule.made(monotonicMs());
    this.#dueAt = null;
    await this.#store();
  }

  /** Sends the oldest pending seal, unless one is on its way. */
  #send(): void {
    const [envelope] = this.#pending;
    const { port, monotonicMs } = this.#options;
    if (envelope === undefined || this.#sending !== null || monotonicMs() < this.#retryAt || !port.isReady()) return;
    this.#sending = this.#attempt(envelope)
      .catch((error: unknown) => {
        this.#report(error);
        this.#retryAt = monotonicMs() + retryMsMax;
      })
      .finally(() => {
        this.#sending = null;
        this.#options.store.notify(); // the loop looks again
      });
  }

  async #attempt(envelope: Uint8Array): Promise<void> {
    const { port } = this.#options;
    const seal = readAuditSeal(envelope);
    const known = port.headOf(seal.boot) ?? { ...emptyHead, final: false };
    const acknowledged = this.#acknowledged?.boot === seal.boot ? this.#acknowledged.head : known;
    const head = acknowledged.size > known.size ? acknowledged : known;
    if (head.size === seal.size && !head.root.equals(seal.root)) return this.#fork(seal);
    if (head.size === seal.size && (head.final || !seal.final)) return this.#accept(seal);
    if (head.size > seal.size) return this.#followLog(seal, head);
    const isNext = head.size === seal.previous.size && head.root.equals(seal.previous.root);
    if (!isNext && head !== known) this.#acknowledged = null;
    if (!isNext && ++this.#strange >= strangeMax)
      return this.#hadTree(seal.boot, known) ? this.#continueFrom(known, seal) : this.#fork(seal);
    const result = isNext ? await port.submit(envelope) : "refused";
    if (result === "done") return this.#accept(seal);
    if (result === "refused") this.#acknowledged = null; // the log may have lost it
    this.#retryAt = this.#options.monotonicMs() + this.#retryMs;
    this.#retryMs = Math.min(retryMsMax, this.#retryMs * 2);
  }

  #accept({ boot, size, root, final }: AuditSeal): void {
    this.#counts.sealed++;
    this.#acknowledged = { boot, head: { size, root, final } };
    this.#drop();
  }

  #drop(): void {
    this.#pending.shift();
    this.#strange = 0;
    this.#retryMs = retryMsFirst;
    this.#retryAt = Number.NEGATIVE_INFINITY;
    this.#storedAt = Number.NEGATIVE_INFINITY;
  }

  /** The log has a newer seal of the boot than this spool: the folder was restored from an older copy. */
  #followLog(seal: AuditSeal, head: TreeHead): void {
    const tree = this.#tree;
    if (tree?.boot !== seal.boot || (tree.size > head.size && !tree.had(head))) {
      this.#fork(seal);
      return;
    }
    this.#drop();
    if (tree.size <= head.size) tree.expect(head);
    if (tree.state === "forked") this.#reportFork(tree);
  }

  /** Whether the log is where this node has sealed a boot before. */
  #hadTree(boot: BootId, head: TreeHead): boolean {
    return head.size === 0 || (this.#tree?.boot === boot && this.#tree.had(head));
  }

  /** The log has lost seals, as a failover can: what they covered is sealed again from where the log is. */
  #continueFrom(head: TreeHead, seal: AuditSeal): void {
    const { sign } = this.#options.port;
    const none = { leaves: 1, bytes: Buffer.alloc(0) };
    const code = seal.code === null ? null : none;
    const isKnown = code !== null && this.#tree?.boot === seal.boot;
    const unhashed = isKnown ? (this.#tree?.unhashedAfter(head.size) ?? []) : seal.unhashed;
    const within = unhashed.filter(({ last }) => last <= seal.size);
    const again = { ...seal, previous: head, lost: [], lostMore: true, unhashed: within, marks: none, code };
    this.#pending[0] = sign(encodeAuditSeal(again));
    this.#strange = 0;
    this.#storedAt = Number.NEGATIVE_INFINITY;
  }

  #fork({ boot, size }: AuditSeal): void {
    this.#drop();
    if (this.#tree?.boot === boot) this.#tree.state = "stopped";
    this.#counts.forks++;
    this.#options.onFailure(new AuditForkedError(boot, size));
  }

  #reportFork(tree: BootTree): void {
    this.#counts.forks++;
    this.#options.onFailure(new AuditForkedError(tree.boot, tree.size));
    tree.state = "stopped"; // reported once
  }

  async #finish(until: number): Promise<void> {
    const { store, monotonicMs, sleep } = this.#options;
    await this.#sending;
    while (monotonicMs() < until && (await this.#step()) != null);
    const isEnded = store.segments.at(-1)?.final === true;
    try {
      if (this.#tree?.hasNews({ final: isEnded }) === true) await this.#make({ final: isEnded });
      else await this.#store();
      this.#retryAt = Number.NEGATIVE_INFINITY;
      while (this.#pending.length > 0 && monotonicMs() < until && this.#retryAt <= monotonicMs()) {
        this.#send();
        if (this.#sending === null) break; // not ready
        await this.#sending;
      }
      await this.#store();
    } catch (error) {
      this.#report(error);
      await sleep(0);
    }
  }

  async #store(): Promise<void> {
    const { disk, monotonicMs, onStored } = this.#options;
    this.#storedAt = monotonicMs();
    const position = this.#position;
    const tree = this.#tree?.form() ?? null;
    await writeSealerState(disk, stateName, { position, tree, pending: this.#pending });
    this.#storedPending = this.#pending.length;
    if (position === this.#stored) return;
    this.#stored = position;
    onStored();
  }

  async #until(changed: Promise<void>): Promise<void> {
    const timer = new AbortController();
    const signal = AbortSignal.any([timer.signal, this.#stop.signal]);
    await Promise.race([changed, this.#options.sleep(idleMsMax, signal).catch(() => undefined)]);
    timer.abort();
  }

  #report(error: unknown): void {
    if (!this.#failing) this.#options.onFailure(error);
    this.#failing = true;
  }
}

const stateName = "seals.json";
