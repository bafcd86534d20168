/**
 * Value types of identity keys: token issuers, hosts that share a sign-in, and policies that a console attached. Pure.
 */
import { flattenClaims, isScimClientName } from "../../events/index.ts";
import type { PolicySource } from "../source/source-locations.ts";
import { readNamedMapping, refuseInside, refuseUnknownKey } from "./named-mapping.ts";
import { checkUrl, isLoopback } from "./network-values.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  parseStringList,
  type Refuse,
  type RefusedValue,
  scalarText,
  type ValueType,
  valueType,
} from "./value-type.ts";

/** An issuer of tokens for callers that are not people: a cluster, a pipeline. */
export type TokenIssuerConfig = Readonly<{
  name: string;
  /** The exact value of the `iss` claim. */
  issuer: string;
  /** Null: taken from the issuer's discovery document. */
  jwksUrl: URL | null;
  algorithms: readonly string[];
  audiences: readonly string[];
}>;

/** A SCIM client, and how its people are matched with people who sign in. */
export type ScimClientConfig = Readonly<{
  name: string;
  /**
   * `subject`, `claim`: the client's `externalId` equals the provider's `sub`, or the claim. `email`: the client's
   * primary e-mail, or else its `userName`, equals the e-mail that the provider has verified.
   */
  match: "subject" | "claim" | "email";
  /** Null unless `match` is `claim`. */
  claim: string | null;
  /** Whose people it provisions: an entry of `sign_in_providers`; null: the provider of the `idp_` keys. */
  provider: string | null;
}>;

/** Sufficient values, by claim name. */
export type ClaimLists = Readonly<Record<string, readonly (string | number | boolean)[]>>;

/** A policy that a console attached to a route. */
export type SubPolicyConfig = Readonly<{
  id: string;
  name: string;
  /** Null: the policy has only lists. */
  policy: PolicySource | null;
  allowedUsers: readonly string[];
  allowedDomains: readonly string[];
  allowedIdpClaims: ClaimLists;
  /** Shown to refused callers if the route shows error details; "": nothing. */
  explanation: string;
  remediation: string;
}>;

/**
 * Accepted signature algorithms. With a shared secret, or without a signature, a verifier could have made the token
 * itself.
 */
const algorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA".split(" ");
const usualAlgorithms = ["RS256", "ES256", "EdDSA"];
const issuerKeys = ["issuer", "jwks_url", "supported_algs", "audiences"];

export const tokenIssuers = (): ValueType<readonly TokenIssuerConfig[]> =>
  valueType(
    {
      label: "mapping of name to issuer",
      json: { type: ["object", "string"], additionalProperties: { type: "object" } },
    },
    (value, refuse) => {
      const map = typeof value === "string" ? parseJson(value) : value;
      if (!isPlainObject(map)) return refuse("is not a mapping", "write a name, and under it issuer and audiences");
      const found: TokenIssuerConfig[] = [];
      let refused: RefusedValue | undefined;
      for (const [name, item] of Object.entries(map)) {
        const issuer = readIssuer(name, item, refuseInside(refuse, name));
        if (isRefused(issuer)) refused = issuer;
        else if (found.some((other) => other.issuer === issuer.issuer))
          refused = refuse("is already the issuer of another entry", "keep one of them", [name, "issuer"]);
        else found.push(issuer);
      }
      return refused ?? found;
    },
  );

const scimKeys = ["match", "claim", "provider"];
const scimMatches = ["subject", "claim", "email"] as const;

export const scimClients = (): ValueType<readonly ScimClientConfig[]> =>
  valueType(
    {
      label: "mapping of name to SCIM client",
      json: { type: ["object", "string"], additionalProperties: { type: "object" } },
    },
    (value, refuse) => {
      const example = "write a name, and under it match";
      const found = readNamedMapping(value, { refuse, example, read: readScimClient });
      if (isRefused(found)) return found;
      return found.length > scimClientsMax ? refuse("has too many clients", `keep ${scimClientsMax} of them`) : found;
    },
  );

/** Each client costs one look-up per sign-in. */
const scimClientsMax = 16;

function readScimClient(name: string, item: unknown, refuse: Refuse): ScimClientConfig | RefusedValue {
  if (!isScimClientName(name))
    return refuse(`${formatValue(name)} is not a name`, "use up to 40 lowercase letters, digits, . and -");
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a SCIM client`, "write match: subject");
  const strange = refuseUnknownKey(item, scimKeys, refuse);
  if (strange !== undefined) return strange;
  const match = scimMatches.find((each) => each === (item["match"] ?? "subject"));
  if (match === undefined)
    return refuse(`${formatValue(item["match"])} is not a way to match`, `write ${scimMatches.join(", ")}`, ["match"]);
  const claim = item["claim"] === undefined ? null : (scalarText(item["claim"]) ?? "");
  if ((match === "claim") !== (claim !== null && claim !== ""))
    return refuse("names a claim only with match: claim", "write match: claim with claim, or neither", ["claim"]);
  const provider = item["provider"] === undefined ? null : scalarText(item["provider"]);
  if (provider === undefined || provider === "")
    return refuse("is not the name of a provider", "write the name of an entry of sign_in_providers", ["provider"]);
  return { name, match, claim, provider };
}

function readIssuer(name: string, item: unknown, refuse: Refuse): TokenIssuerConfig | RefusedValue {
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name))
    return refuse(`${formatValue(name)} is not a name`, "use lowercase letters, digits, - and _");
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not an issuer`, "write issuer and audiences");
  const strange = refuseUnknownKey(item, issuerKeys, refuse);
  if (strange !== undefined) return strange;
  const issuer = scalarText(item["issuer"]);
  if (issuer === undefined) return refuse("names no issuer", "write issuer: the iss of its tokens");
  if (issuer.startsWith("kubernetes:"))
    return refuse(
      "is not looked up in the pod by this build",
      "write the cluster's own issuer, and jwks_url where its keys are",
      ["issuer"],
    );
  const asUrl = readIssuerUrl(issuer, refuseInside(refuse, "issuer"));
  if (isRefused(asUrl)) return asUrl;
  const jwks =
    item["jwks_url"] === undefined ? null : readIssuerUrl(item["jwks_url"], refuseInside(refuse, "jwks_url"));
  if (isRefused(jwks)) return jwks;
  const audiences = parseStringList(item["audiences"] ?? [], refuseInside(refuse, "audiences"));
  if (isRefused(audiences)) return audiences;
  if (audiences.length === 0)
    return refuse(
      "names no audiences, so tokens issued for other services would be accepted",
      "write audiences: what the tokens' aud must name",
      ["audiences"],
    );
  const algs = parseStringList(item["supported_algs"] ?? usualAlgorithms, refuseInside(refuse, "supported_algs"));
  if (isRefused(algs)) return algs;
  const unknown = algs.find((alg) => !algorithms.includes(alg));
  if (unknown !== undefined || algs.length === 0)
    return refuse(
      `${formatValue(unknown)} is not a supported signature algorithm`,
      `write some of ${algorithms.join(", ")}`,
      ["supported_algs"],
    );
  return { name, issuer, jwksUrl: jwks, algorithms: algs, audiences };
}

/** Requires TLS outside loopback: an attacker who can replace the keys in transit can sign any token. */
function readIssuerUrl(value: unknown, refuse: Refuse): URL | RefusedValue {
  const url = checkUrl(value, { schemes: ["https", "http"], refuse });
  if (isRefused(url)) return url;
  return url.protocol === "http:" && !isLoopback(url.hostname)
    ? refuse("is plain HTTP, so anyone on the network path can forge tokens", "use https")
    : url;
}

const hostsMax = 5;

/** A list of hosts. A URL counts as its host, as in Pomerium. */
export const hostNames = (): ValueType<readonly string[]> =>
  valueType(
    { label: "list of host", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list = parseStringList(value, refuse);
      if (isRefused(list)) return list;
      if (list.length > hostsMax) return refuse(`names ${list.length} hosts`, `write ${hostsMax} at most`);
      const hosts: string[] = [];
      for (const [i, written] of list.entries()) {
        const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(written) ? written : `https://${written}`;
        const host = URL.canParse(url) ? new URL(url).host : "";
        if (host === "" || host.includes("*"))
          return refuse(`${formatValue(written)} is not a host`, "write one such as api.example.com", [i]);
        hosts.push(host);
      }
      return [...new Set(hosts)];
    },
  );

const subPolicyKeys = [
  "id",
  "name",
  "source_ppl",
  "rego",
  "allowed_users",
  "allowed_domains",
  "allowed_idp_claims",
  "explanation",
  "remediation",
];
const textKeys = ["id", "name", "explanation", "remediation"] as const;

/** A policy as a console attaches it. Its rules are read from `source_ppl`, the source of the other fields. */
export type WrittenSubPolicy = Omit<SubPolicyConfig, "policy"> & Readonly<{ sourcePpl: unknown; rego: boolean }>;

export const subPolicies = (): ValueType<readonly WrittenSubPolicy[]> =>
  valueType(
    { label: "list of policies", json: { type: ["array", "string"], items: { type: "object" } } },
    (value, refuse) => {
      const list = typeof value === "string" ? parseJson(value) : value;
      if (!Array.isArray(list)) return refuse("is not a list of policies", "write - name: …, with source_ppl");
      const found: WrittenSubPolicy[] = [];
      let refused: RefusedValue | undefined;
      list.forEach((item: unknown, i) => {
        const one = readSubPolicy(item, refuseInside(refuse, i));
        if (isRefused(one)) refused = one;
        else found.push(one);
      });
      return refused ?? found;
    },
  );

function readSubPolicy(item: unknown, refuse: Refuse): WrittenSubPolicy | RefusedValue {
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a policy`, "write name and source_ppl");
  const strange = refuseUnknownKey(item, subPolicyKeys, refuse);
  if (strange !== undefined) return strange;
  const texts = { id: "", name: "", explanation: "", remediation: "" };
  for (const key of textKeys) {
    const text = item[key] === undefined || item[key] === null ? "" : scalarText(item[key]);
    if (text === undefined) return refuse(`${formatValue(item[key])} is not text`, "write quoted text", [key]);
    texts[key] = text;
  }
  const users = parseStringList(item["allowed_users"] ?? [], refuseInside(refuse, "allowed_users"));
  if (isRefused(users)) return users;
  const domains = parseStringList(item["allowed_domains"] ?? [], refuseInside(refuse, "allowed_domains"));
  if (isRefused(domains)) return domains;
  const claims = item["allowed_idp_claims"] ?? {};
  if (!isPlainObject(claims))
    return refuse(`${formatValue(claims)} is not a mapping`, "write claim: [value]", ["allowed_idp_claims"]);
  const rego = parseStringList(item["rego"] ?? [], refuseInside(refuse, "rego"));
  if (isRefused(rego)) return rego;
  const sourcePpl = item["source_ppl"] === "" ? undefined : item["source_ppl"];
  if (sourcePpl !== undefined && sourcePpl !== null && typeof sourcePpl !== "string" && typeof sourcePpl !== "object")
    return refuse(`${formatValue(sourcePpl)} is not a policy`, "write it in Pomerium's policy language", [
      "source_ppl",
    ]);
  if (rego.some((text) => text.trim() !== "") && (sourcePpl === undefined || sourcePpl === null))
    return refuse(
      "is a policy in Rego, which this build does not evaluate",
      "express it in Pomerium's policy language, under source_ppl",
      ["rego"],
    );
  return {
    ...texts,
    allowedUsers: users,
    allowedDomains: domains,
    allowedIdpClaims: flattenClaims(claims),
    sourcePpl: sourcePpl ?? null,
    rego: rego.length > 0,
  };
}
