/**
 * Configurations from Pomerium's own documentation: each is accepted, or refused for a reason that
 * docs/pomerium-differences.md lists. Their folder is not in the repository; without it, the suite is skipped.
 */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { readConfiguration } from "../../src/cli/build/load.ts";
import { formatProblem, type Problem } from "../../src/config/index.ts";
import { TemporaryFolder } from "../support/child.ts";
import { certificate } from "./support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const candidates = ["../shared/data/pomerium-configs", "../../shared/data/pomerium-configs"];
const folder = candidates.map((path) => join(root, path)).find((path) => existsSync(join(path, "manifest.json")));
const page = readFileSync(join(root, "docs/pomerium-differences.md"), "utf8");

/** Accepted reasons for a refusal: the text of the finding, and the heading of the page that documents it. */
const reasons: readonly (readonly [pattern: RegExp, heading: string])[] = [
  [/Pomerium's own sign-in service/, "Hosted sign-in"],
  [/ssh (?:routes|upstreams) are not supported/, "SSH"],
  [/is plain HTTP, which is allowed only for loopback/, "Plain HTTP"],
  [/names no port; write one such as tcp\+https/, "Tunnels without a port"],
  [/is not an address; write tcp:\/\/host:port/, "Tunnels without a port"],
  [/has capitals, and Pomerium reads it as/, "Claim names with capitals"],
  [/is not a list of payloads/, "Invalid in Pomerium too"],
  [/routes\[0\]\.to\[0\]: "" is not a URL/, "Invalid in Pomerium too"],
  [/contains no readable certificate/, "Invalid in Pomerium too"],
];

type Entry = Readonly<{ file: string; env: Readonly<Record<string, string>> | null }>;

const secretOf = (seed: string): string => createHash("sha256").update(seed).digest("base64");

function headingOf(problem: Problem): string | undefined {
  const line = formatProblem(problem);
  return reasons.find(([pattern]) => pattern.test(line))?.[1];
}

test("every reason for a refusal has a heading in docs/pomerium-differences.md", () => {
  for (const [, heading] of reasons) assert.ok(page.includes(`\n### ${heading}\n`), heading);
});

suite("Pomerium's documented configurations", {
  skip: folder === undefined && "the folder of configurations is missing",
}, () => {
  test("each is accepted, or refused for a listed reason; the counts match the page", (context) => {
    using work = new TemporaryFolder("pomerium-configs");
    const { cert, key } = certificate(["*.example.com"]);
    const pem = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "sec1", format: "pem" });
    for (const [name, text] of [
      ["cert.pem", cert],
      ["key.pem", key],
      ["ec.pem", String(pem)],
    ] as const)
      writeFileSync(join(work.path, name), text, { mode: 0o600 });
    const placeholders: Readonly<Record<string, string>> = {
      "@SECRET@": secretOf("shared"),
      "@COOKIE@": secretOf("cookie"),
      "@EC_KEY_B64@": Buffer.from(pem).toString("base64"),
      "@CA_B64@": Buffer.from(cert).toString("base64"),
      "@DIR@": work.path,
    };
    const fill = (text: string): string => text.replace(/@[A-Z0-9_]+@/g, (name) => placeholders[name] ?? name);
    const manifest = JSON.parse(readFileSync(join(folder ?? "", "manifest.json"), "utf8")) as readonly Entry[];
    const refused = new Map<string, number>();
    let accepted = 0;
    for (const { file, env } of manifest) {
      const path = join(work.path, file);
      writeFileSync(path, fill(readFileSync(join(folder ?? "", file), "utf8")), { mode: 0o600 });
      const variables = Object.fromEntries(Object.entries(env ?? {}).map(([name, value]) => [name, fill(value)]));
      const { problems } = readConfiguration(path, { env: variables, missingSecrets: "forget" });
      const errors = problems.filter(({ severity }) => severity === "error");
      if (errors.length === 0) accepted += 1;
      const headings = new Set(errors.map((problem) => headingOf(problem) ?? `not listed: ${formatProblem(problem)}`));
      for (const heading of headings) refused.set(heading, (refused.get(heading) ?? 0) + 1);
      for (const heading of headings) assert.doesNotMatch(heading, /^not listed/, file);
    }
    const counts = [...refused].toSorted().map(([heading, count]) => `${heading}: ${count}`);
    context.diagnostic(`${accepted} of ${manifest.length} accepted; ${counts.join(", ")}`);
    assert.ok(
      page.includes(`${accepted} of ${manifest.length}`),
      `the page does not say ${accepted} of ${manifest.length}`,
    );
    const readme = readFileSync(join(root, "README.md"), "utf8");
    const claim = `of ${manifest.length} configurations in Pomerium's documentation ${accepted} run unchanged`;
    assert.ok(readme.replaceAll("\n", " ").includes(claim), `README.md does not say "${claim}"`);
    for (const count of counts) assert.ok(page.includes(count), `the page does not say ${count}`);
  });
});
