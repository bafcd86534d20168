/** Entra adapter: `provider: entra` (docs/directories-entra.md). */
import { X509Certificate } from "node:crypto";
import * as z from "zod";
import { defineAdapter, httpsUrl, text } from "../../adapter-contract.ts";
import {
  type Assertion,
  createAccessTokens,
  jwtBearer,
  privateKey,
  requestToken,
  signAssertion,
} from "../shared/oauth-client.ts";
import { createEntraSource } from "./entra-source.ts";

const certificate = z.string().transform((pem, context) => {
  try {
    return new X509Certificate(pem);
  } catch {
    context.addIssue({ code: "custom", message: "is not a PEM certificate" });
    return z.NEVER;
  }
});

const settings = z
  .strictObject({
    /** The tenant's id or one of its domains. */
    tenant_id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.-]{0,127}$/, "is not a tenant's id or domain"),
    client_id: text(),
    client_secret: text().optional(),
    /** Instead of a secret: the certificate that the application has, and its key. */
    certificate: certificate.optional(),
    certificate_key: privateKey(["rsa"]).optional(),
    /** Of a national cloud, such as https://login.microsoftonline.us/ and https://graph.microsoft.us/. */
    login_url: httpsUrl().default(new URL("https://login.microsoftonline.com/")),
    graph_url: httpsUrl().default(new URL("https://graph.microsoft.com/")),
  })
  .superRefine(({ client_secret, certificate: leaf, certificate_key: key }, context) => {
    const refuse = (path: string, message: string): void => context.addIssue({ code: "custom", message, path: [path] });
    if ((leaf === undefined) !== (key === undefined)) refuse("certificate", "needs certificate_key, and the reverse");
    else if ((client_secret === undefined) === (leaf === undefined))
      refuse("client_secret", "write either this, or certificate with certificate_key");
    else if (leaf !== undefined && key !== undefined && !leaf.checkPrivateKey(key))
      refuse("certificate_key", "is not the key of certificate");
  });

export const entraAdapter = defineAdapter({
  provider: "entra",
  settings,
  secrets: ["client_secret", "certificate", "certificate_key"],
  open(written, parts) {
    const { tenant_id, client_id, client_secret, login_url, graph_url } = written;
    const http = parts.http();
    const url = new URL(`/${tenant_id}/oauth2/v2.0/token`, login_url);
    const scope = `${graph_url.origin}/.default`;
    const assertion = assertionOf({
      clientId: client_id,
      url,
      leaf: written.certificate,
      key: written.certificate_key,
    });
    const tokens = createAccessTokens({
      now: parts.now,
      async request(signal) {
        const proof =
          assertion === null
            ? { client_secret: client_secret ?? "" }
            : {
                client_assertion_type: jwtBearer,
                client_assertion: await signAssertion(assertion, parts.now()),
              };
        const form = { grant_type: "client_credentials", client_id, scope, ...proof };
        return requestToken({ http, url, form, now: parts.now, signal });
      },
    });
    return createEntraSource({ http, graph: graph_url, tokens });
  },
});

/** Null: the application has a secret. */
function assertionOf({
  clientId,
  url,
  leaf,
  key,
}: Readonly<{
  clientId: string;
  url: URL;
  leaf: X509Certificate | undefined;
  key: Assertion["key"] | undefined;
}>): Assertion | null {
  if (leaf === undefined || key === undefined) return null;
  const thumbprint = Buffer.from(leaf.fingerprint256.replaceAll(":", ""), "hex").toString("base64url");
  return {
    key,
    header: { alg: "PS256", typ: "JWT", "x5t#S256": thumbprint },
    issuer: clientId,
    subject: clientId,
    audience: url.href,
  };
}
