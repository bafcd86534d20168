/** `cardea operator token`: a token of the operator API for automation, with a role. */
import { randomUUID } from "node:crypto";
import { userInfo } from "node:os";
import { routeGroupPattern } from "../../../config/index.ts";
import { mintOperatorToken, type OperatorRole, operatorRoles } from "../../../console/index.ts";
import { readLocalConfig } from "../../build/local-config.ts";
import { parse } from "../../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../../terminal/command.ts";

const secondsDefault = 3_600;
const secondsMax = 366 * 24 * 3_600;
const unitS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

export const operatorToken: CliCommand = {
  name: "operator token",
  usage: "-c FILE [--role viewer|operator|administrator] [--route-groups hr,finance] [--name NAME] [--valid 1h]",
  summary: "print a token of the operator API, with a role, for CARDEA_TOKEN",
  help: `Prints the token alone. It is made from the shared secret of the configuration, without asking a server, and it cannot be revoked: give it the
lowest role and the shortest life that do. Without --role it is an administrator's. --route-groups limits the role to groups of routes. The
log names each of its acts with NAME (default: your user name) and the token's id. --valid is at most 366d; the default is 1h.`,
  async run(args, terminal) {
    const options = {
      config: { type: "string", short: "c" },
      json: { type: "boolean" },
      role: { type: "string" },
      "route-groups": { type: "string" },
      name: { type: "string" },
      valid: { type: "string" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const path = parsed.text("config");
    if (path === undefined) throw new UsageError("name the configuration with -c; its shared secret signs the token");
    const role = parseRole(parsed.text("role") ?? "administrator");
    const routeGroups = parseGroups(parsed.text("route-groups"));
    const name = parsed.text("name") ?? `cli-${userInfo().username.replace(/[^A-Za-z0-9_.-]/g, "_")}`;
    if (!/^[\w.@-]{1,100}$/.test(name)) throw new UsageError(`--name ${name}: write letters, digits and _ . @ -`);
    const ttlS = parseSeconds(parsed.text("valid"));
    const config = readLocalConfig(path, terminal);
    const nowS = Math.floor(Date.now() / 1_000);
    const tokenId = randomUUID();
    const token = await mintOperatorToken({
      secret: config.sharedSecret,
      cluster: config.broker.clusterName,
      name,
      tokenId,
      nowS,
      ttlS,
      role,
      ...(routeGroups === undefined ? {} : { routeGroups }),
    });
    const expiresAt = new Date((nowS + ttlS) * 1_000).toISOString();
    const json = { token, id: tokenId, name, role, routeGroups: routeGroups ?? null, expiresAt };
    terminal.out(parsed.flag("json") ? `${JSON.stringify(json)}\n` : `${token}\n`);
    return 0;
  },
};

function parseRole(text: string): OperatorRole {
  const role = operatorRoles.find((one) => one === text);
  if (role === undefined) throw new UsageError(`--role ${text}: write ${operatorRoles.join(", ")}`);
  return role;
}

function parseGroups(text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(",").map((name) => name.trim());
  const wrong = names.find((name) => !routeGroupPattern.test(name));
  if (wrong !== undefined || names.length > 20)
    throw new UsageError(`--route-groups ${text}: write at most 20 names of groups of routes, with commas`);
  return names;
}

function parseSeconds(text: string | undefined): number {
  if (text === undefined) return secondsDefault;
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (unitS[unit as keyof typeof unitS] ?? Number.NaN);
  if (!(seconds >= 1 && seconds <= secondsMax))
    throw new UsageError(`--valid ${text}: write a time such as 15m, 8h or 30d`);
  return seconds;
}
