/** `cardea scim tokens list|create|rotate|revoke` */
import { randomBytes } from "node:crypto";
import type { ScimTokenView } from "../../console/index.ts";
import { formatScimToken, hashScimSecret, type ScimScope, scimScopes, secretIn } from "../../events/index.ts";
import { type OperatorClient, withOperator } from "../operator/operator-client.ts";
import { postChange, runChange } from "../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, waitOptions } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";

const dayMs = 86_400_000;

export const scimTokensList: CliCommand = {
  name: "scim tokens list",
  usage: "",
  summary: "list the tokens of SCIM clients",
  help: "Shows each token's id, client, status, scopes and expiry, never its secret.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 0, max: 0 }), terminal, async (client, parsed) => {
      const tokens = await listTokens(client);
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(tokens)}\n`);
      else if (tokens.length === 0) terminal.out("no SCIM tokens\n");
      else {
        const rows = tokens.map((t) => [t.id, t.client, t.status, t.expiresAt ?? "never", t.scopes.join(", ")]);
        terminal.out(formatTable(["TOKEN", "CLIENT", "STATUS", "EXPIRES", "SCOPES"], rows));
      }
      return 0;
    }),
};

export const scimTokensCreate: CliCommand = {
  name: "scim tokens create",
  usage: "CLIENT [--scopes users:read,users:write,groups:read,groups:write] [--expires 365d]",
  summary: "create a token for a SCIM client, and print it once",
  help: `CLIENT is a name in scim_clients. Prints the token alone on standard output. Its secret is made here; the server gets only its hash, so
the token cannot be shown again. Without --expires it does not expire.`,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, scopes: { type: "string" }, expires: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      (client, parsed) =>
        createToken(client, parsed, terminal, {
          client: parsed.positionals[0] ?? "",
          scopes: parseScopes(parsed.text("scopes")),
          expiresAt: parseExpiry(parsed.text("expires")),
          replaces: null,
        }),
    ),
};

export const scimTokensRotate: CliCommand = {
  name: "scim tokens rotate",
  usage: "TOKEN [--keep] [--expires 365d]",
  summary: "replace a token of a SCIM client, and print the new one once",
  help: `The new token has the same client and scopes. The old one is revoked in the same step; with --keep it stays valid until you revoke it,
so that the client can be changed first.`,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, keep: { type: "boolean" }, expires: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const id = parsed.positionals[0] ?? "";
        const old = (await listTokens(client)).find((token) => token.id === id);
        if (old === undefined) throw new CannotError(`there is no SCIM token ${id}; see cardea scim tokens list`);
        return createToken(client, parsed, terminal, {
          client: old.client,
          scopes: scimScopes.filter((scope) => old.scopes.includes(scope)),
          expiresAt: parseExpiry(parsed.text("expires")),
          replaces: parsed.flag("keep") ? null : old.id,
        });
      },
    ),
};

export const scimTokensRevoke: CliCommand = {
  name: "scim tokens revoke",
  usage: "TOKEN [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "revoke a token of a SCIM client",
  help: "Requests with it are refused on every node at once. What the client has provisioned stays.",
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const id = parsed.positionals[0] ?? "";
        return runChange(client, parsed, terminal, {
          path: `/scim/tokens/${encodeURIComponent(id)}/revoke`,
          body: {},
          done: `token ${id} revoked`,
          unchanged: `nothing changed: token ${id} was already revoked`,
        });
      },
    ),
};

async function listTokens(client: OperatorClient): Promise<readonly ScimTokenView[]> {
  const { tokens } = (await client.get("/scim/tokens")) as Readonly<{ tokens: readonly ScimTokenView[] }>;
  return tokens;
}

async function createToken(
  operator: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  of: Readonly<{ client: string; scopes: readonly ScimScope[]; expiresAt: string | null; replaces: string | null }>,
): Promise<ExitCode> {
  const { client, scopes, expiresAt, replaces } = of;
  const id = randomBytes(6).toString("hex");
  const token = formatScimToken(id, randomBytes(32));
  await postChange(operator, "/scim/tokens", {
    client,
    tokenId: id,
    secretHash: hashScimSecret(secretIn(token)),
    scopes,
    ...(expiresAt === null ? {} : { expiresAt }),
    ...(replaces === null ? {} : { replaces }),
  });
  if (parsed.flag("json")) terminal.out(`${JSON.stringify({ token, id, client, scopes, expiresAt })}\n`);
  else {
    terminal.out(`${token}\n`);
    terminal.err(`token ${id} of SCIM client ${client}; it is shown only once\n`);
    if (replaces !== null) terminal.err(`token ${replaces} is revoked\n`);
  }
  return 0;
}

function parseScopes(text: string | undefined): readonly ScimScope[] {
  if (text === undefined) return scimScopes;
  const named = text.split(",").map((scope) => scope.trim());
  const scopes = scimScopes.filter((scope) => named.includes(scope));
  if (scopes.length === 0 || scopes.length !== new Set(named).size)
    throw new UsageError(`--scopes is a list of ${scimScopes.join(", ")}`);
  return scopes;
}

/** Days from now, as ISO 8601; null: never. */
function parseExpiry(text: string | undefined): string | null {
  if (text === undefined) return null;
  const days = Number(/^(\d{1,4})d$/.exec(text)?.[1] ?? 0);
  if (days < 1) throw new UsageError("--expires is a number of days, such as 365d");
  return new Date(Date.now() + days * dayMs).toISOString();
}
