/**
 * Person labels: the names of the people in records, for an operator who may see them. An erased person has none, so
 * their id is shown.
 */
import type { AuditRecord } from "../../../audit/index.ts";
import type { UserId } from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import { profileOfUser } from "../operator-views.ts";

export type PersonLabels = Readonly<Record<string, string>>;

/** @param seen the ids that need no label any more; the ones found are added, up to `seenMax` */
export function labelPeople(
  replica: Replica,
  records: readonly AuditRecord[],
  { seen, seenMax }: Readonly<{ seen: Set<string>; seenMax: number }>,
): PersonLabels {
  const labels: Record<string, string> = {};
  for (const id of records.flatMap(peopleIn)) {
    if (seen.has(id)) continue;
    if (seen.size >= seenMax) seen.clear();
    seen.add(id);
    const profile = profileOfUser(replica, id as UserId);
    const label = profile === undefined ? "" : profile.email === "" ? profile.name : profile.email;
    if (label !== "") labels[id] = label;
  }
  return labels;
}

function peopleIn(record: AuditRecord): readonly string[] {
  if (record.kind === "gap") return [];
  if (record.kind === "decision") return record.userId === null ? [] : [record.userId];
  return [record.actor, ...record.targets].flatMap((one) => (one.startsWith("user:") ? [one.slice(5)] : []));
}
