/**
 * Profile: what an identity provider says of a person, as sealed into session and user events.
 *
 * Claims are flattened as Pomerium does it: nested objects become dotted keys and every value is a list.
 */
import { hash as digestOf } from "node:crypto";
import { encode } from "./codec/codec.ts";
import { parseUserId, type UserId } from "./ids.ts";

export type ClaimValue = string | number | boolean;
export type Claims = Readonly<Record<string, readonly ClaimValue[]>>;
export type Profile = Readonly<{
  /** The provider's issuer and its `sub`; policy's `user` criterion and the assertion's `sub` use the subject. */
  issuer: string;
  subject: string;
  email: string;
  /** True only when the provider itself says so. */
  emailVerified: boolean;
  name: string;
  claims: Claims;
}>;

/** Flattens claims: `{a: {b: 1}}` becomes `{"a.b": [1]}`; values that are neither text, number nor truth are left out. */
export function flattenClaims(claims: Readonly<Record<string, unknown>>): Claims {
  const flat: Record<string, ClaimValue[]> = Object.create(null);
  const put = (path: string, value: unknown): void => {
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
      const list = flat[path];
      if (list === undefined) flat[path] = [value];
      else list.push(value);
    } else if (Array.isArray(value)) {
      if (value.length === 0) flat[path] ??= [];
      for (const item of value) put(path, item);
    } else if (typeof value === "object" && value !== null) {
      for (const [key, inner] of Object.entries(value)) put(path === "" ? key : `${path}.${key}`, inner);
    }
  };
  put("", claims);
  return { ...flat };
}

/** Shapes an opened value as a profile; undefined when it is none. */
export function parseProfile(value: unknown): Profile | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const v = value as Record<string, unknown>;
  if (typeof v["subject"] !== "string" || typeof v["issuer"] !== "string") return undefined;
  return {
    issuer: v["issuer"],
    subject: v["subject"],
    email: typeof v["email"] === "string" ? v["email"] : "",
    emailVerified: v["emailVerified"] === true,
    name: typeof v["name"] === "string" ? v["name"] : "",
    claims: typeof v["claims"] === "object" && v["claims"] !== null ? (v["claims"] as Claims) : {},
  };
}

/** The user id of a person: from (issuer, subject) alone, so that it is stable, and says nothing by itself. */
export function userIdOf(issuer: string, subject: string): UserId {
  const h = digestOf("sha256", encode(["cardea user", issuer, subject]), "hex");
  return parseUserId(`${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20, 32)}`);
}
