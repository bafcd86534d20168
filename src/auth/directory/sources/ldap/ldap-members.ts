/**
 * LDAP members: reads who is in a group, in pieces that fit into a page.
 *
 * - Active Directory sends a range of the members at a time. Other servers send all of them; they are kept until the
 *   last piece has been returned.
 * - Active Directory leaves a person out of the members of their primary group. They are a second part of the members.
 */
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryMembers } from "../../source.ts";
import type { LdapConnection } from "./ldap-connection.ts";
import { dnKey, type LdapEntry, type LdapValues, valuesOf } from "./ldap-entry.ts";
import type { LdapGroup, LdapIndex, LdapSchema } from "./ldap-index.ts";
import { ldapCodec } from "./ldap-modules.ts";

/** Where the members of a group are read on. */
export type MembersPosition = Readonly<{ part: "listed" | "primary"; offset: number }>;
export const firstPosition: MembersPosition = { part: "listed", offset: 0 };

/** A piece of the members. `next`: null: this was the last one. */
export type MembersPiece = Readonly<{ members: DirectoryMembers; next: MembersPosition | null }>;

/** Members of a piece. */
export const pieceSize = 10_000;

export class LdapMembers {
  readonly #connection: LdapConnection;
  readonly #schema: LdapSchema;
  readonly #index: LdapIndex;
  /** By the relative id of their primary group. */
  readonly #primary = new Map<number, string[]>();
  #kept: Readonly<{ groupId: string; values: readonly Buffer[] }> | undefined;

  constructor(connection: LdapConnection, index: LdapIndex, schema: LdapSchema) {
    this.#connection = connection;
    this.#index = index;
    this.#schema = schema;
    for (const { person, primaryGroup } of index.people) {
      if (primaryGroup === null) continue;
      const people = this.#primary.get(primaryGroup);
      if (people === undefined) this.#primary.set(primaryGroup, [person.id]);
      else people.push(person.id);
    }
  }

  /** People change their primary group, and the group does not show it. */
  isPrimary({ relativeId }: LdapGroup): boolean {
    return relativeId !== null && this.#primary.has(relativeId);
  }

  /** @throws DirectoryError, or an error of the connection */
  async read(found: LdapGroup, { part, offset }: MembersPosition, signal: AbortSignal): Promise<MembersPiece> {
    const groupId = found.group.id;
    if (part === "primary") {
      const all = this.#primary.get(found.relativeId ?? -1) ?? [];
      const next = offset + pieceSize < all.length ? { part, offset: offset + pieceSize } : null;
      return { members: { groupId, people: all.slice(offset, offset + pieceSize), groups: [] }, next };
    }
    const { values, next } = await this.#readListed(found, offset, signal);
    const members = { groupId, ...this.#idsOf(values) };
    if (next !== null) return { members, next: { part, offset: next } };
    return { members, next: this.isPrimary(found) ? { part: "primary", offset: 0 } : null };
  }

  async #readListed({ group, dn }: LdapGroup, offset: number, signal: AbortSignal): Promise<LdapValues> {
    if (this.#kept?.groupId !== group.id) {
      this.#kept = undefined;
      const found = await this.#search(dn, offset, signal);
      // A range, or all of a small group.
      if (found.next !== null || this.#schema.isActiveDirectory) return found;
      this.#kept = { groupId: group.id, values: found.values };
    }
    const { values } = this.#kept;
    const end = offset + pieceSize;
    if (end < values.length) return { values: values.slice(offset, end), next: end };
    this.#kept = undefined;
    return { values: values.slice(offset), next: null };
  }

  async #search(dn: string, offset: number, signal: AbortSignal): Promise<LdapValues> {
    const { member } = this.#schema.groups;
    const isRange = this.#schema.isActiveDirectory && offset > 0;
    const filter = new (ldapCodec().PresenceFilter)({ attribute: "objectClass" });
    let entry: LdapEntry | undefined;
    await this.#connection.searchPage(
      {
        base: dn,
        scope: "base",
        filter,
        attributes: [isRange ? `${member};range=${offset}-*` : member],
        pageSize: null,
        cookie: Buffer.alloc(0),
      },
      (each) => {
        entry = each;
      },
      signal,
    );
    if (entry === undefined) throw new DirectoryError("a group is not readable", { kind: "malformed" });
    return valuesOf(entry, member, isRange ? offset : 0);
  }

  #idsOf(values: readonly Buffer[]): Readonly<{ people: readonly string[]; groups: readonly string[] }> {
    const { personByDn, personByUserName, groupByDn } = this.#index;
    const isName = this.#schema.groups.member.toLowerCase() === "memberuid";
    const people: string[] = [];
    const groups: string[] = [];
    for (const value of values) {
      const name = value.toString("utf8");
      const key = isName ? name.toLowerCase() : dnKey(name);
      const person = (isName ? personByUserName : personByDn).get(key);
      const group = isName ? undefined : groupByDn.get(key);
      // Others, such as computers, count for nothing here.
      if (person !== undefined) people.push(person);
      else if (group !== undefined) groups.push(group);
    }
    return { people, groups };
  }
}
