/**
 * SQLite restore: refills an empty file log from a snapshot and the events after it, within the transactions of the
 * store.
 *
 * Until an epoch is opened over it the head row holds no incarnation, so no broker can append or beat.
 */
import type { SQLInputValue } from "node:sqlite";
import {
  configBodiesMax,
  genesis,
  type Link,
  linkOf,
  type Recorded,
  type StoredConfiguration,
} from "../../../events/index.ts";
import { splitBytes } from "../byte-list.ts";
import type { RestoreStep } from "../log.ts";
import { insert } from "./inserts.ts";
import { decodeBatch, hashBytes, type PackedRestore } from "./rows.ts";

type Run = (sql: string, values: readonly SQLInputValue[]) => number;
export type RestoreTables = Readonly<{
  run: Run;
  insertEvent: (recorded: Recorded, bytes: Uint8Array) => void;
  wallMs: () => number;
}>;

/** @throws MalformedBatchError when the events do not follow the head */
export function unpackRestore(packed: PackedRestore, head: Link): RestoreStep {
  return packed.type === "events" ? { type: "events", entries: decodeBatch(splitBytes(packed.entries), head) } : packed;
}

/** Applies a step that is checked already. */
export function takeRestoreStep(tables: RestoreTables, head: Link, step: RestoreStep): void {
  switch (step.type) {
    case "begin":
      begin(tables, step);
      return;
    case "keys":
      for (const { userId, keyId, wrapped } of step.keys) tables.run(insert.personKey, [userId, keyId, wrapped]);
      return;
    case "configurations":
      putConfigurations(tables.run, step.configurations);
      return;
    case "events": {
      let before = head;
      for (const { recorded, bytes } of step.entries) {
        putEvent(tables, before, recorded, bytes);
        before = linkOf(recorded);
      }
      moveHead(tables.run, before);
    }
  }
}

export function putBase(run: Run, base: Link): void {
  run(insert.base, [base.epoch, base.position, hashBytes(base.hash)]);
}

/** Stores configuration bodies: the first with a given hash is kept, up to the maximum number. */
export function putConfigurations(run: Run, configurations: readonly StoredConfiguration[]): void {
  for (const { configHash, recordedAt, body } of configurations)
    run(insert.configuration, [configHash, recordedAt, body, configBodiesMax]);
}

function begin({ run, wallMs }: RestoreTables, { base, epochs }: Extract<RestoreStep, { type: "begin" }>): void {
  putBase(run, base);
  for (const { epoch, incarnation, start } of epochs)
    run(insert.epoch, [epoch, incarnation, start, hashBytes(genesis.hash), "", null, wallMs()]);
  moveHead(run, base);
}

function putEvent(tables: RestoreTables, before: Link, recorded: Recorded, bytes: Uint8Array): void {
  const { run, wallMs } = tables;
  const { event, epoch, position, stream, version } = recorded;
  tables.insertEvent(recorded, bytes);
  run(insert.streamHead, [stream, version]);
  if (event.type === "EpochOpened")
    run(insert.epoch, [epoch, event.incarnation, position, hashBytes(before.hash), event.brokerId, null, wallMs()]);
  if (event.type === "UserErased") run(insert.erasedKey, [event.userId]);
}

function moveHead(run: Run, { epoch, position, hash }: Link): void {
  run("update log_head set epoch = ?, pos = ?, hash = ?", [epoch, position, hashBytes(hash)]);
}
