/**
 * Digest sum: the sum (mod 2^256) of the SHA-256 hashes of entities in canonical form. Pure.
 *
 * Entities are added and removed one by one, in any order, so the sum is always current and equal sets have equal sums.
 */
import { hash as digestOf } from "node:crypto";
import type { GroupId, UserId } from "../ids.ts";
import { encode } from "../messagepack.ts";
import { GroupForms } from "./group-forms.ts";
import { SessionForm } from "./session-form.ts";
import type { Group, Membership, Session } from "./state.ts";

export class DigestSum {
  readonly #limbs = new Uint32Array(8);
  readonly #sessionForm = new SessionForm();
  readonly #groupForms = new GroupForms();

  /** 64 hexadecimal digits. */
  text(): string {
    return Buffer.from(this.#limbs.buffer).toString("hex");
  }

  /** @param text the result of `text` on another digest sum */
  set(text: string): void {
    this.#limbs.set(new Uint32Array(Uint8Array.from(Buffer.from(text, "hex")).buffer));
  }

  replace(kind: string, before: object | undefined, after: object | undefined): void {
    if (before !== undefined) this.#add(encode([kind, before]), -1);
    if (after !== undefined) this.#add(encode([kind, after]), 1);
  }

  /** A faster `replace("session", …)`. */
  replaceSession(before: Session | undefined, after: Session | undefined): void {
    if (before !== undefined) this.#add(this.#formOf(before), -1);
    if (after !== undefined) this.#add(this.#formOf(after), 1);
  }

  /** A faster `replace("membership", …)`: one event may change thousands of memberships. */
  replaceMembership(
    userId: UserId,
    groupId: GroupId,
    { before, after }: Readonly<{ before: Membership | undefined; after: Membership | undefined }>,
  ): void {
    const formOf = (membership: Membership): Uint8Array =>
      (membership.grant === undefined && membership.requested === undefined
        ? this.#groupForms.ofMembership(userId, groupId, membership)
        : undefined) ?? encode(["membership", { userId, groupId, ...membership }]);
    if (before !== undefined) this.#add(formOf(before), -1);
    if (after !== undefined) this.#add(formOf(after), 1);
  }

  /** A faster `replace("group", …)`. */
  replaceGroup(before: Group | undefined, after: Group | undefined): void {
    const formOf = (group: Group): Uint8Array =>
      (group.scim === undefined ? this.#groupForms.ofGroup(group) : undefined) ?? encode(["group", group]);
    if (before !== undefined) this.#add(formOf(before), -1);
    if (after !== undefined) this.#add(formOf(after), 1);
  }

  #formOf(session: Session): Uint8Array {
    return this.#sessionForm.bytesOf(session) ?? encode(["session", session]);
  }

  /** Adds or subtracts the hash of one entity's form, as a little-endian number of eight 32-bit limbs. */
  #add(form: Uint8Array, sign: 1 | -1): void {
    const hash = digestOf("sha256", form, "latin1"); // a string of 32 bytes costs half as much as a buffer
    let carry = 0;
    for (let limb = 0; limb < 8; limb++) {
      const at = limb * 4;
      const word =
        hash.charCodeAt(at) |
        (hash.charCodeAt(at + 1) << 8) |
        (hash.charCodeAt(at + 2) << 16) |
        (hash.charCodeAt(at + 3) << 24);
      const sum = (this.#limbs[limb] ?? 0) + sign * (word >>> 0) + carry;
      this.#limbs[limb] = sum >>> 0; // modulo 2^32, also for negative sums
      carry = Math.floor(sum / 2 ** 32);
    }
  }
}
