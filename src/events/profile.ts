/**
 * Profile: a person's identity as the identity provider states it. Session and user events hold it sealed.
 *
 * Claims are flattened as in Pomerium: nested objects become dotted keys, and every value is a list.
 */
import { hash as digestOf } from "node:crypto";
import { parseUserId, type UserId } from "./ids.ts";
import { encode } from "./messagepack.ts";

export type ClaimValue = string | number | boolean;
export type Claims = Readonly<Record<string, readonly ClaimValue[]>>;
export type Profile = Readonly<{
  /** The provider's issuer. */
  issuer: string;
  /** The provider's `sub`. The policy criterion `user` and the assertion's `sub` use it. */
  subject: string;
  email: string;
  /** True only if the provider says so. */
  emailVerified: boolean;
  name: string;
  claims: Claims;
}>;

/** `{a: {b: 1}}` becomes `{"a.b": [1]}`. Omits values that are not strings, numbers or booleans. */
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

/** @returns undefined if the opened value is not a profile */
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

/** The user id of a person. It follows from issuer and subject alone, so it is stable, and it reveals neither. */
export function userIdOf(issuer: string, subject: string): UserId {
  const h = digestOf("sha256", encode(["cardea user", issuer, subject]), "hex");
  return parseUserId(`${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20, 32)}`);
}
