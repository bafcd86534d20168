/**
 * Header templates: `set_request_headers` values with references such as `${pomerium.jwt}`.
 *
 * - Pure.
 * - `$$` renders as a dollar sign, and so does a lone `$`.
 * - An unknown reference renders as empty text, as in Pomerium, and is a warning when the configuration is read.
 */
export type HeaderPart =
  | Readonly<{ type: "text"; text: string }>
  /** The signed identity assertion. */
  | Readonly<{ type: "jwt" }>
  /** The session's token of this name from the identity provider; empty text if there is none. */
  | Readonly<{ type: "providerToken"; what: "id" | "access" }>
  /** A property of the caller's certificate, if it is valid on the route; otherwise empty text. */
  | Readonly<{ type: "clientCertificate"; what: "fingerprint" | "dns" | "email" }>
  /** The value of a request header; empty text if it is absent. `name` is lowercase. */
  | Readonly<{ type: "requestHeader"; name: string }>;

export type HeaderTemplate = Readonly<{
  parts: readonly HeaderPart[];
  /** Unknown references, exactly as written. */
  unknown: readonly string[];
}>;

const ofCertificate = {
  "pomerium.client_cert_fingerprint": "fingerprint",
  "pomerium.client_cert_san_dns": "dns",
  "pomerium.client_cert_san_email": "email",
} as const;

export function parseHeaderTemplate(value: string): HeaderTemplate {
  const parts: HeaderPart[] = [];
  const unknown: string[] = [];
  let text = "";
  let rest = value;
  while (rest !== "") {
    const found = /\$\$|\$\{([^}]*)\}/.exec(rest);
    if (found === null) break;
    text += rest.slice(0, found.index);
    rest = rest.slice(found.index + found[0].length);
    if (found[1] === undefined) {
      text += "$";
      continue;
    }
    const part = parseReference(found[1].trim());
    if (part === undefined) {
      unknown.push(found[0]);
      continue;
    }
    if (text !== "") parts.push({ type: "text", text });
    text = "";
    parts.push(part);
  }
  text += rest;
  if (text !== "" || parts.length === 0) parts.push({ type: "text", text });
  return { parts, unknown };
}

function parseReference(reference: string): HeaderPart | undefined {
  if (reference === "pomerium.jwt") return { type: "jwt" };
  if (reference === "pomerium.id_token") return { type: "providerToken", what: "id" };
  if (reference === "pomerium.access_token") return { type: "providerToken", what: "access" };
  if (Object.hasOwn(ofCertificate, reference))
    return { type: "clientCertificate", what: ofCertificate[reference as keyof typeof ofCertificate] };
  const header = /^pomerium\.request\.headers\[(["'])([A-Za-z0-9-]{1,200})\1\]$/.exec(reference)?.[2];
  return header === undefined ? undefined : { type: "requestHeader", name: header.toLowerCase() };
}
