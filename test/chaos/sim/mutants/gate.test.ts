/** The mutation gate, with the mutants that are caught at once. `npm run simulate:mutants` runs all of them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { cheapest } from "../../../../chaos/sim/mutants.ts";

const main = join(import.meta.dirname, "../../../../chaos/sim/mutants-main.ts");

function gate(...args: readonly string[]): Promise<Readonly<{ code: number | null; out: string; errors: string }>> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const [out, errors]: [string[], string[]] = [[], []];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => out.push(chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => errors.push(chunk));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out: out.join(""), errors: errors.join("") }));
  });
}
const lastLine = (out: string): string => out.trimEnd().split("\n").at(-1) ?? "";

describe("npm run simulate:mutants", { concurrency: false }, () => {
  test("removed rules are caught within the stated number of seeds, and the last line says so", async () => {
    const { code, out } = await gate("--cheapest");
    assert.equal(code, 0, out);
    const all = cheapest.length;
    assert.match(lastLine(out), new RegExp(`^mutants: ${all} of ${all} caught in \\d+ seeds, \\d+ s; none escaped$`));
    for (const name of cheapest) assert.match(out, new RegExp(`^${name}: caught by .+ at seed \\d+ `, "m"));
  });

  test("an escaped mutant is named, and the gate fails", async () => {
    const { code, out } = await gate("--only", "fresh-at-receipt", "--at-most", "0");
    assert.equal(code, 1);
    assert.equal(
      lastLine(out).replace(/\d+ s;/, "0 s;"),
      "mutants: 0 of 1 caught in 0 seeds, 0 s; escaped: fresh-at-receipt",
    );
  });

  test("an unknown rule is wrong usage", async () => {
    const { code, errors } = await gate("--only", "no-such-rule");
    assert.equal(code, 2);
    assert.match(errors, /^there is no mutant no-such-rule; there are (\S+, )*fresh-at-receipt, /);
  });
});
