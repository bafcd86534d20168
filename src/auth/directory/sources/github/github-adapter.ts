/** GitHub adapter: `provider: github` (docs/directories-github.md). */
import type { KeyObject } from "node:crypto";
import * as z from "zod";
import { defineAdapter, httpsUrl, type SourceParts, text } from "../../adapter-contract.ts";
import { DirectoryError } from "../../directory-error.ts";
import {
  type AccessToken,
  createAccessTokens,
  privateKey,
  refusedCredentials,
  signAssertion,
} from "../shared/oauth-client.ts";
import { addressOf } from "../shared/page-links.ts";
import { createGithubSource, githubHeaders, githubLimit } from "./github-source.ts";

const number = z.coerce.number().int().positive().transform(String);

const settings = z
  .strictObject({
    organization: z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})$/, "is not an organization's name"),
    token: text().optional(),
    /** Instead of a token: a GitHub App that is installed in the organization. */
    app_id: number.optional(),
    installation_id: number.optional(),
    private_key: privateKey(["rsa"]).optional(),
    /** Of GitHub Enterprise Server: https://HOST/api/v3. */
    api_url: httpsUrl().default(new URL("https://api.github.com/")),
  })
  .superRefine(({ token, app_id, installation_id, private_key }, context) => {
    const refuse = (path: string, message: string): void => context.addIssue({ code: "custom", message, path: [path] });
    const ofApp = [app_id, installation_id, private_key].filter((value) => value !== undefined).length;
    if (ofApp !== 0 && ofApp !== 3) refuse("app_id", "needs installation_id and private_key, and the reverse");
    else if ((token === undefined) === (ofApp === 0))
      refuse("token", "write either this, or app_id with installation_id and private_key");
  });

export const githubAdapter = defineAdapter({
  provider: "github",
  settings,
  secrets: ["token", "private_key"],
  open({ organization, api_url: api, token, ...app }, parts) {
    const http = parts.http({ limitOf: githubLimit });
    if (token !== undefined)
      return createGithubSource({
        http,
        api,
        organization,
        asksMembership: true,
        token: async () => token,
        onRefusal: () => {},
      });
    const { app_id = "", installation_id = "", private_key } = app;
    const tokens = createAccessTokens({
      now: parts.now,
      request: (signal) =>
        installationToken({ appId: app_id, installationId: installation_id, key: private_key, api, parts, signal }),
    });
    return createGithubSource({
      http,
      api,
      organization,
      asksMembership: false,
      token: (signal) => tokens.get(signal),
      onRefusal: () => tokens.drop(),
    });
  },
});

const tokenAnswer = z.object({
  token: z
    .string()
    .min(1)
    .max(4_096)
    .regex(/^[\x21-\x7e]+$/),
  expires_at: z.iso.datetime({ offset: true }),
  permissions: z.record(z.string(), z.string()),
});

/** GitHub accepts assertions of at most ten minutes. */
const assertionMs = 300_000;

async function installationToken(
  app: Readonly<{
    appId: string;
    installationId: string;
    key: KeyObject | undefined;
    api: URL;
    parts: SourceParts;
    signal: AbortSignal;
  }>,
): Promise<AccessToken> {
  const { key, api, parts } = app;
  if (key === undefined) throw new Error("the settings have no key");
  const assertion = await signAssertion(
    { key, header: { alg: "RS256", typ: "JWT" }, issuer: app.appId, lifeMs: assertionMs },
    parts.now(),
  );
  const answer = await parts.http({ limitOf: githubLimit }).request({
    url: addressOf(`app/installations/${app.installationId}/access_tokens`, api),
    method: "POST",
    headers: { ...githubHeaders, authorization: `Bearer ${assertion}`, "content-type": "application/json" },
    body: JSON.stringify({ permissions: { members: "read" } }),
    signal: app.signal,
    accept: [401, 403, 404, 422],
  });
  if (answer.status === 422)
    throw new DirectoryError("GitHub refuses: the app lacks read access to the organization's members", {
      kind: "forbidden",
    });
  if (answer.status >= 400) throw refusedCredentials(answer, { host: api.host, now: parts.now() });
  const parsed = tokenAnswer.safeParse(answer.json());
  if (!parsed.success)
    throw new DirectoryError(`${api.host} answered without an installation token`, { kind: "malformed" });
  const { token, expires_at, permissions } = parsed.data;
  if (permissions["members"] === undefined)
    throw new DirectoryError("GitHub refuses: the app lacks read access to the organization's members", {
      kind: "forbidden",
    });
  return { value: token, expiresAtMs: Date.parse(expires_at) };
}
