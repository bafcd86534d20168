/**
 * Erasure report: what erasing a person destroys, and what it does not reach. Made before the erasure, because the
 * person's own data leads to the records of SCIM clients.
 */
import { type ConfigHash, configTextOf, parseProvisioned, type UserId } from "../../events/index.ts";
import type { OperatorApiDeps } from "./operator-route.ts";
import { profileOfUser } from "./operator-views.ts";

export type ErasedPerson = Readonly<{
  userId: UserId;
  /** The person who signs in, or what a SCIM client has recorded of them. */
  kind: "person" | "scim-record";
  client: string | null;
  /** `destroyed-before`: an earlier erasure destroyed it. */
  key: "destroyed" | "destroyed-before" | "to-be-destroyed";
  /** Sessions in the log that end, and their provider tokens in the vault, which are deleted. */
  sessions: number;
  /** Memberships that stay in the log under the user id. */
  memberships: number;
}>;

/** Data that an erasure does not reach. `place` is in docs/erasure.md. */
export type KeptData = Readonly<{ place: string; holds: string; remedy: string }>;

export type ErasureReport = Readonly<{
  people: readonly ErasedPerson[];
  /** Stored configurations whose text names the e-mail or the subject. */
  configurations: readonly ConfigHash[];
  /** Stored configurations that were not searched, because there are too many. */
  unsearched: number;
  kept: readonly KeptData[];
}>;

const searchedMax = 100;

const kept: readonly KeptData[] = [
  {
    place: "key-backups",
    holds:
      "the person's key, wrapped under shared_secret: backups of the key table, WAL archives, old row versions in Postgres",
    remedy: "let them expire; after a restore of the key table, erase the person again",
  },
  {
    place: "log",
    holds: "user ids, which are hashes of the subject or the e-mail, session and group ids, and times; snapshots too",
    remedy: "none: who guesses the subject or the e-mail can recognise the id",
  },
  {
    place: "nats",
    holds: "the person's key, wrapped: the replay buffer of NATS, for 24 hours",
    remedy: "wait, or purge the stream",
  },
  {
    place: "decision-records",
    holds:
      "ids, addresses, hosts, paths, user agents, reasons that operators wrote, and what audit_query and audit_headers name; no name, e-mail or claim of Cardea's own",
    remedy: "the retention of the sinks",
  },
  {
    place: "process-logs",
    holds: "what authorize_log_fields and access_log_fields name, such as e-mails, and reasons that operators wrote",
    remedy: "the retention of your log system",
  },
  {
    place: "reasons",
    holds: "reasons that operators wrote, in clear",
    remedy: "none: name no person in a reason",
  },
  {
    place: "outside",
    holds: "what upstreams and the identity provider know",
    remedy: "erase the person there",
  },
];

/** @throws BrokerUnavailableError */
export async function reportErasure(
  deps: Pick<OperatorApiDeps, "replica" | "provisionedFor" | "databroker">,
  userId: UserId,
): Promise<ErasureReport> {
  const { replica } = deps;
  const profile = profileOfUser(replica, userId);
  const names = [profile?.email, profile?.subject].filter((name) => name !== undefined && name.length >= 3);
  const people = [...provisionedOf(deps, userId), userId].map((each): ErasedPerson => {
    const client = each === userId ? null : (parseProvisioned(profileOfUser(replica, each))?.client ?? null);
    const isErased = replica.projection.user(each)?.status === "erased";
    return {
      userId: each,
      kind: each === userId ? "person" : "scim-record",
      client,
      key: isErased ? "destroyed-before" : "to-be-destroyed",
      sessions: replica.projection.sessionsOf(each).length,
      memberships: replica.projection.memberships(each).size,
    };
  });
  return { people, kept, ...(await searchConfigurations(deps, names as readonly string[])) };
}

/** After the erasure. */
export function confirmErasure(report: ErasureReport): ErasureReport {
  const people = report.people.map((person) =>
    person.key === "to-be-destroyed" ? ({ ...person, key: "destroyed" } as const) : person,
  );
  return { ...report, people };
}

async function searchConfigurations(
  { databroker }: Pick<OperatorApiDeps, "databroker">,
  names: readonly string[],
): Promise<Pick<ErasureReport, "configurations" | "unsearched">> {
  if (names.length === 0) return { configurations: [], unsearched: 0 };
  const stored = await databroker.configurations();
  const newest = stored.slice(-searchedMax);
  const configurations: ConfigHash[] = [];
  for (const { configHash } of newest) {
    const found = await databroker.configuration(configHash);
    if (found === undefined) continue;
    const text = configTextOf(found.body);
    if (names.some((name) => text.includes(JSON.stringify(name).slice(1, -1)))) configurations.push(configHash);
  }
  return { configurations, unsearched: stored.length - newest.length };
}

/** The provisioned people that correlate with a person who signs in, those that a record has moved to included. */
export function provisionedOf(
  { replica, provisionedFor }: Pick<OperatorApiDeps, "replica" | "provisionedFor">,
  userId: UserId,
): readonly UserId[] {
  const profile = profileOfUser(replica, userId);
  const found = new Set(profile === undefined ? [] : provisionedFor?.(profile));
  for (const each of found) {
    const movedTo = parseProvisioned(profileOfUser(replica, each))?.record.movedTo;
    if (movedTo !== undefined && movedTo !== null) found.add(movedTo);
  }
  return [...found].filter((each) => replica.projection.user(each) !== undefined);
}
