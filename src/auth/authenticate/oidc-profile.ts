/** What an identity provider says of a person, as this program keeps it. Pure. */
import { flattenClaims, type Profile } from "../../events/index.ts";

/** Claims of one token rather than of the person: with them, every refresh would look like a change. */
const passing = ["exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"];

export function profileOf(issuer: string, subject: string, said: Readonly<Record<string, unknown>>): Profile {
  const claims = { ...said };
  for (const name of passing) delete claims[name];
  const textOf = (name: string): string => (typeof claims[name] === "string" ? (claims[name] as string) : "");
  return {
    issuer,
    subject,
    email: textOf("email"),
    emailVerified: claims["email_verified"] === true || claims["email_verified"] === "true",
    name: textOf("name"),
    claims: flattenClaims(claims),
  };
}
