/** OIDC profile: an identity provider's claims about a person, as stored. Pure. */
import { flattenClaims, isPlainLines, isPlainText, type Profile } from "../../../events/index.ts";
import { ProviderError } from "./provider-error.ts";

/** Claims about one token, not the person. If stored, every refresh would be a change. */
const tokenClaims = ["exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"];
const claimDepthMax = 16;
/** OpenID Connect Core §2: a subject has at most 255 ASCII characters; some providers exceed that. */
const subjectCharsMax = 1_000;

/**
 * Drops claims whose name or value is not well-formed text.
 * @throws ProviderError when the subject or issuer is invalid, or the claims are nested too deep
 */
export function profileOf(issuer: string, subject: string, said: Readonly<Record<string, unknown>>): Profile {
  if (!isName(issuer) || !isName(subject))
    throw new ProviderError("the identity provider's subject is not plain text", { kind: "untrue" });
  const own = Object.entries(said).filter(([name]) => !tokenClaims.includes(name));
  const claims = Object.fromEntries(own);
  if (isDeeperThan(claims, claimDepthMax))
    throw new ProviderError("the identity provider's claims are nested too deeply", { kind: "untrue" });
  const textOf = (name: string): string => {
    const value = claims[name];
    return typeof value === "string" && isPlainText(value) ? value : "";
  };
  const plain = Object.entries(flattenClaims(claims))
    .filter(([name]) => isPlainText(name))
    .map(([name, values]) => [name, values.filter((value) => typeof value !== "string" || isPlainLines(value))]);
  return {
    issuer,
    subject,
    email: textOf("email"),
    emailVerified: claims["email_verified"] === true || claims["email_verified"] === "true",
    name: textOf("name"),
    claims: Object.fromEntries(plain),
  };
}

function isName(text: string): boolean {
  return text !== "" && text.length <= subjectCharsMax && isPlainText(text);
}

/** Breadth-first, without recursion: a token may hold any JSON. */
function isDeeperThan(value: unknown, depthMax: number): boolean {
  let level: readonly unknown[] = [value];
  for (let depth = 0; depth <= depthMax; depth++) {
    level = level.flatMap((each) => (typeof each === "object" && each !== null ? Object.values(each) : []));
    if (level.length === 0) return false;
  }
  return true;
}
