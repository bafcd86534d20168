/** Google adapter: `provider: google_workspace` (docs/directories-google.md). */
import * as z from "zod";
import { defineAdapter, httpsUrl, text } from "../../adapter-contract.ts";
import { createAccessTokens, privateKey, requestToken, signAssertion } from "../shared/oauth-client.ts";
import { createGoogleSource } from "./google-source.ts";

const keyFile = z.object({
  type: z.literal("service_account"),
  client_email: text(),
  private_key_id: text(),
  private_key: privateKey(["rsa"]),
  token_uri: httpsUrl(),
});

const settings = z.strictObject({
  /** The JSON key of the service account. */
  service_account_key: z.string().transform((written, context): z.infer<typeof keyFile> => {
    let value: unknown;
    try {
      value = JSON.parse(written);
    } catch {
      value = null;
    }
    const parsed = keyFile.safeParse(value);
    if (parsed.success) return parsed.data;
    const at = parsed.error.issues[0]?.path.join(".") ?? "";
    context.addIssue({
      code: "custom",
      message: `is not the JSON key of a service account${at === "" ? "" : `: ${at}`}`,
    });
    return z.NEVER;
  }),
  /** The e-mail of the administrator that the service account impersonates. */
  administrator: z.email(),
  /** The account; `my_customer` is that of the administrator. */
  customer: z
    .string()
    .regex(/^[\w.-]{1,64}$/)
    .default("my_customer"),
  api_url: httpsUrl().default(new URL("https://admin.googleapis.com/")),
});

/** The least scopes that list users, groups and members. */
const scopes = [
  "https://www.googleapis.com/auth/admin.directory.user.readonly",
  "https://www.googleapis.com/auth/admin.directory.group.readonly",
];

export const googleAdapter = defineAdapter({
  provider: "google_workspace",
  settings,
  secrets: ["service_account_key"],
  open({ service_account_key: account, administrator, customer, api_url }, { http: createHttp, now }) {
    const http = createHttp();
    const url = account.token_uri;
    const tokens = createAccessTokens({
      now,
      async request(signal) {
        const assertion = await signAssertion(
          {
            key: account.private_key,
            header: { alg: "RS256", typ: "JWT", kid: account.private_key_id },
            issuer: account.client_email,
            subject: administrator,
            audience: url.href,
            claims: { scope: scopes.join(" ") },
          },
          now(),
        );
        const form = { grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion };
        return requestToken({ http, url, form, now, signal });
      },
    });
    return createGoogleSource({ http, api: api_url, tokens, customer });
  },
});
