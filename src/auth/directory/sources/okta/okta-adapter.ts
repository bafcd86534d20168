/** Okta adapter: `provider: okta` (docs/directories-okta.md). */
import * as z from "zod";
import { defineAdapter, httpsUrl, type SourceParts, text } from "../../adapter-contract.ts";
import {
  algorithmOf,
  createAccessTokens,
  jwtBearer,
  privateKey,
  requestToken,
  signAssertion,
} from "../shared/oauth-client.ts";
import { createOktaSource, oktaLimit } from "./okta-source.ts";

const settings = z
  .strictObject({
    /** Of the organization, such as https://example.okta.com. */
    url: httpsUrl().refine(({ pathname }) => pathname === "/", "must be the organization's address, without a path"),
    api_token: text().optional(),
    /** Instead of a token: a service app with a public key. */
    client_id: text().optional(),
    private_key: privateKey(["rsa", "ec"]).optional(),
    /** The id of the key in Okta, if the app has several. */
    key_id: text().optional(),
  })
  .superRefine(({ api_token, client_id, private_key, key_id }, context) => {
    const refuse = (path: string, message: string): void => context.addIssue({ code: "custom", message, path: [path] });
    if ((client_id === undefined) !== (private_key === undefined))
      refuse("client_id", "needs private_key, and the reverse");
    else if ((api_token === undefined) === (client_id === undefined))
      refuse("api_token", "write either this, or client_id with private_key");
    else if (key_id !== undefined && private_key === undefined) refuse("key_id", "belongs to private_key");
  });

export const oktaAdapter = defineAdapter({
  provider: "okta",
  settings,
  secrets: ["api_token", "private_key"],
  open(written, parts) {
    const http = parts.http({ limitOf: oktaLimit });
    const api = new URL("/api/v1/", written.url);
    const { api_token } = written;
    if (api_token !== undefined)
      return createOktaSource({ http, api, authorization: async () => `SSWS ${api_token}`, onRefusal: () => {} });
    const tokens = serviceTokens(written, parts);
    return createOktaSource({
      http,
      api,
      authorization: async (signal) => `Bearer ${await tokens.get(signal)}`,
      onRefusal: () => tokens.drop(),
    });
  },
});

function serviceTokens(written: z.infer<typeof settings>, parts: SourceParts): ReturnType<typeof createAccessTokens> {
  const { client_id = "", private_key: key, key_id } = written;
  const http = parts.http({ limitOf: oktaLimit });
  const url = new URL("/oauth2/v1/token", written.url);
  return createAccessTokens({
    now: parts.now,
    async request(signal) {
      if (key === undefined) throw new Error("the settings have no key");
      const header = { alg: algorithmOf(key), typ: "JWT", ...(key_id !== undefined && { kid: key_id }) } as const;
      const assertion = { key, header, issuer: client_id, subject: client_id, audience: url.href };
      const form = {
        grant_type: "client_credentials",
        scope: "okta.users.read okta.groups.read",
        client_assertion_type: jwtBearer,
        client_assertion: await signAssertion(assertion, parts.now()),
      };
      return requestToken({ http, url, form, now: parts.now, signal });
    },
  });
}
