/** People in events: the people whose personal data events may contain, from the encoded bytes. Pure. */
import { decode, parseUserId, type UserId } from "../../events/index.ts";

export function peopleIn(entries: readonly Uint8Array[]): UserId[] {
  const people = new Set<UserId>();
  for (const bytes of entries) {
    const fields = decode(bytes);
    const body: unknown = Array.isArray(fields) ? fields[11] : undefined;
    if (typeof body !== "object" || body === null || !("userId" in body) || !("profile" in body)) continue;
    people.add(parseUserId(body.userId));
  }
  return [...people];
}
