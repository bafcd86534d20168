/** Value of a `postgres` entry of `audit.sinks`: the database in which audit records are stored. Pure. */
import { refuseUnknownKey } from "./named-mapping.ts";
import { formatValue, type Refuse, type RefusedValue } from "./value-type.ts";

export type WrittenPostgresSink = Readonly<{
  kind: "postgres";
  url: string | undefined;
  url_file: string | undefined;
  schema: string;
  /** Null: kept forever. */
  retentionDays: number | null;
}>;

/** Where audit records are stored in Postgres, with the password. */
export type PostgresSinkConfig = Readonly<{ connectionString: string; schema: string; retentionDays: number | null }>;

const schemaDefault = "audit";
const retentionDaysMax = 3_650;

export function readPostgresSink(
  isOn: unknown,
  settings: Record<string, unknown>,
  refuse: Refuse,
): WrittenPostgresSink | RefusedValue {
  const { format = "json", url, url_file: urlFile, schema = schemaDefault, retention_days: days } = settings;
  if (isOn !== true)
    return refuse(`${formatValue(isOn)} cannot be used here`, "write - postgres: true, and url_file", ["postgres"]);
  const keys = ["format", "url", "url_file", "schema", "retention_days"];
  const strange = refuseUnknownKey(settings, keys, refuse);
  if (strange !== undefined) return strange;
  if (format !== "json")
    return refuse(`${formatValue(format)} is not a format of this sink`, "remove it: the table has the records", [
      "format",
    ]);
  if (typeof schema !== "string" || !/^[a-z_][a-z0-9_]{0,62}$/.test(schema) || schema.startsWith("pg_"))
    return refuse(
      `${formatValue(schema)} is not the name of a schema`,
      "use lowercase letters, digits and _, and begin neither with a digit nor with pg_",
      ["schema"],
    );
  const isDays = Number.isSafeInteger(days) && (days as number) >= 1 && (days as number) <= retentionDaysMax;
  if (days !== undefined && !isDays)
    return refuse(`${formatValue(days)} is not a number of days`, `write 1 to ${retentionDaysMax}`, ["retention_days"]);
  for (const [key, value] of Object.entries({ url, url_file: urlFile }))
    if (value !== undefined && (typeof value !== "string" || value.trim() === ""))
      return refuse("is not text", key === "url" ? "write postgres://user@host/database" : "name a file", [key]);
  if (url === undefined && urlFile === undefined)
    return refuse("has no url_file", "name a file with postgres://user:password@host:5432/audit");
  return {
    kind: "postgres",
    url: url as string | undefined,
    url_file: urlFile as string | undefined,
    schema,
    retentionDays: days === undefined ? null : (days as number),
  };
}

export function isPostgresAddress(text: string): boolean {
  return /^postgres(?:ql)?:\/\/\S+$/.test(text) || /^\w+\s*=/.test(text);
}

/** Whether it turns TLS off to a server on another machine. */
export function isPlainPostgres(text: string): boolean {
  return /sslmode=disable/.test(text) && !/@(?:localhost|127\.|\[::1\])|host=(?:localhost|127\.|\/)|@\//.test(text);
}
