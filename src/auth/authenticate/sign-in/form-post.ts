/**
 * Form post: an identity provider's answer as a form that the browser posts (`response_mode=form_post`).
 *
 * - The request comes from another site, so browsers send it without our cookies. A redirect to the same path adds
 *   them.
 * - Only the fields of an authorization response are carried over.
 * - Apple adds the person's name, at the first sign-in only. It goes through the address sealed, and bound to its
 *   state.
 */
import { hash } from "node:crypto";
import { isPlainText } from "../../../events/index.ts";
import { stateMaxAgeS } from "./sign-in-state.ts";
import type { ValueCipher } from "./value-cipher.ts";

/** RFC 6749 §4.1.2, RFC 9207, OIDC Session Management. */
const responseFields = ["code", "state", "iss", "session_state", "error", "error_description", "error_uri"];
/** Cardea's: the sealed name of a form. */
const givenNameParameter = "pomerium_given_name";
const purpose = "name in a form";
const nameCharsMax = 100;
const userCharsMax = 4_096;

/** The query of the redirect that takes the place of the form. */
export async function queryOfForm(cipher: ValueCipher, body: unknown): Promise<string> {
  const fields = typeof body === "object" && body !== null ? (body as Readonly<Record<string, unknown>>) : {};
  const query = new URLSearchParams();
  for (const name of responseFields) {
    const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (typeof value === "string") query.set(name, value);
  }
  const name = nameInForm(fields["user"]);
  if (name !== "")
    query.set(givenNameParameter, await cipher.seal(purpose, { name, state: stateHash(query.get("state")) }));
  return query.toString();
}

/** The name that came with this state; "": none. */
export async function givenNameOf(cipher: ValueCipher, query: URLSearchParams): Promise<string> {
  const sealed = query.get(givenNameParameter);
  if (sealed === null) return "";
  const opened = await cipher.open(purpose, sealed, stateMaxAgeS);
  if (typeof opened !== "object" || opened === null || !("name" in opened) || !("state" in opened)) return "";
  return typeof opened.name === "string" && opened.state === stateHash(query.get("state")) ? opened.name : "";
}

/** Apple's field `user`: `{"name": {"firstName": …, "lastName": …}, "email": …}`. No one has signed it. */
function nameInForm(user: unknown): string {
  if (typeof user !== "string" || user.length > userCharsMax) return "";
  const said = parsed(user);
  const name = isRecord(said) && isRecord(said["name"]) ? said["name"] : {};
  const parts = [name["firstName"], name["lastName"]].filter((part) => typeof part === "string");
  const whole = parts
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .join(" ");
  return whole.length <= nameCharsMax && isPlainText(whole) ? whole : "";
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the sign-in continues without a name
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const stateHash = (state: string | null): string => hash("sha256", state ?? "", "base64url");
