/** Postgres rows: parses the columns of the tables of the log. */
import type {
  ConfigBody,
  ConfigHash,
  ConfigurationEntry,
  StoredConfiguration,
  UnixMs,
  UserId,
  WrappedKey,
} from "../../../events/index.ts";
import { type AdmittedNode, type Lessee, LogUnavailableError } from "../log.ts";
import { messageOf, type PostgresConnection, type PostgresRow, type Sent } from "./connection.ts";

/** @throws LogUnavailableError */
export function rowsOf(sent: Sent, connection: PostgresConnection): readonly PostgresRow[] {
  if (sent.type === "clean") return sent.rows;
  const cause = sent.type === "refused" ? sent.error : sent.cause;
  throw new LogUnavailableError(`Postgres at ${connection.host}: ${messageOf(cause)}`, { cause });
}

export function keyFrom(row: PostgresRow): WrappedKey {
  return {
    userId: row["user_id"] as UserId,
    keyId: row["key_id"] as Uint8Array,
    wrapped: row["wrapped"] as Uint8Array,
  };
}

export function configurationFrom(row: PostgresRow): StoredConfiguration {
  return {
    configHash: row["hash"] as ConfigHash,
    recordedAt: Math.round(Number(row["at"])) as UnixMs,
    body: row["body"] as Uint8Array as ConfigBody,
  };
}

export function configurationPlaceFrom(row: PostgresRow): ConfigurationEntry {
  return {
    configHash: row["hash"] as ConfigHash,
    recordedAt: Math.round(Number(row["at"])) as UnixMs,
    bytes: Number(row["bytes"]),
  };
}

export function lesseeFrom(row: PostgresRow): Lessee {
  return {
    node: row["node"] as Lessee["node"],
    boot: row["boot"] as Lessee["boot"],
    region: row["region"] as string,
    role: row["role"] as Lessee["role"],
    windowMs: Number(row["window_ms"]),
  };
}

/** @param row with `heard_at` in ms */
export function admittedNodeFrom(row: PostgresRow): AdmittedNode {
  return {
    node: row["node"] as AdmittedNode["node"],
    role: row["role"] as AdmittedNode["role"],
    region: row["region"] as string,
    boot: row["boot"] as AdmittedNode["boot"],
    heardAt: Math.round(Number(row["heard_at"])) as UnixMs,
    applied: Number(row["applied_pos"]) as AdmittedNode["applied"],
  };
}

/** The columns that `admittedNodeFrom` reads. */
export function admittedNodesText(s: string): string {
  return `select node, role, region, boot, extract(epoch from heard_at) * 1000 as heard_at, applied_pos from ${s}.admitted_node`;
}
