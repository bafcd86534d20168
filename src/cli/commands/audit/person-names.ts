/**
 * Person names: the e-mails of people in records, as far as the caller's server gives them. The server gets a
 * request only for `--names` or an e-mail in `--user`, once per person.
 */
import { LRUCache } from "lru-cache";
import type { AuditRecord } from "../../../audit/index.ts";
import { connectOperator, type OperatorClient, OperatorRefusedError } from "../../operator/operator-client.ts";
import type { Parsed } from "../../terminal/arguments.ts";
import { type Terminal, UsageError } from "../../terminal/command.ts";

export type PersonNames = Readonly<{
  /** The ids of people that may be named by e-mail. @throws UsageError if the server knows no such person */
  idsOf(people: readonly string[]): Promise<readonly string[]>;
  /** By user id; empty without `--names`. */
  of(record: AuditRecord): Promise<ReadonlyMap<string, string>>;
  close(): Promise<void>;
}>;

/** People that are remembered; an e-mail has at most 320 characters. */
const peopleMax = 10_000;
const nameCharsMax = 320;
const idCharsMax = 200;

type KnownPerson = Readonly<{ id: string; email: string; name: string }>;

export function createNames(parsed: Parsed, terminal: Terminal): PersonNames {
  let connected: Promise<OperatorClient> | null = null;
  const labels = new LRUCache<string, string>({ max: peopleMax });
  const people = async (name: string): Promise<readonly KnownPerson[]> => {
    connected ??= connectOperator(parsed, terminal);
    try {
      const answer = await (await connected).get(`/users/${encodeURIComponent(name)}`);
      return (answer as Readonly<{ users: readonly KnownPerson[] }>).users;
    } catch (error) {
      if (error instanceof OperatorRefusedError && error.status === 404) return [];
      throw error;
    }
  };
  const labelOf = async (id: string): Promise<string> => {
    const known = labels.get(id);
    if (known !== undefined) return known;
    const person = (await people(id)).find((one) => one.id === id);
    const label = (person?.email || person?.name || "").slice(0, nameCharsMax);
    labels.set(id, label);
    return label;
  };
  return {
    async idsOf(written) {
      const ids: string[] = [];
      for (const one of written) {
        const found = one.includes("@") ? (await people(one)).map(({ id }) => id) : [one];
        if (found.length === 0) throw new UsageError(`--user ${one}: the server knows no such person`);
        ids.push(...found);
      }
      return ids;
    },
    async of(record) {
      const names = new Map<string, string>();
      if (!parsed.flag("names")) return names;
      for (const id of peopleIn(record).filter(({ length }) => length <= idCharsMax)) {
        const label = await labelOf(id);
        if (label !== "") names.set(id, label);
      }
      return names;
    },
    async close() {
      await (await connected?.catch(() => null))?.close();
    },
  };
}

function peopleIn(record: AuditRecord): readonly string[] {
  if (record.kind === "gap") return [];
  // Records of other versions may have anything there.
  if (record.kind === "decision") return typeof record.userId === "string" ? [record.userId] : [];
  return [record.actor, ...record.targets].flatMap((one: unknown) =>
    typeof one === "string" && one.startsWith("user:") ? [one.slice(5)] : [],
  );
}
