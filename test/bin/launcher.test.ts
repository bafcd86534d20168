/** The `cardea` launcher: on an old Node it finds a newer one, or prints one line with the remedy. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";

const launcher = join(import.meta.dirname, "..", "..", "bin", "cardea.cjs");

test("on a Node that is too old the command prints one line with the remedy", () => {
  const { status, stdout, stderr } = runOnNode("20.19.2", {});
  assert.equal(status, 2);
  assert.equal(stdout, "");
  assert.match(stderr, /^cardea needs Node 26 or newer, and this is v20\.19\.2: in a checkout use `npm start`.*\n$/);
});

test("in an npm script the line names the missing optional package that provides Node", () => {
  using checkout = new Checkout();
  assert.match(
    checkout.startOnOldNode(),
    /^cardea needs Node 26 .* optional package .* `npm ci --include=optional`.*\n$/,
  );
});

test("a Node that npm has misplaced is restored, and the line says to try again", () => {
  using checkout = new Checkout();
  checkout.bring(`#!/bin/sh\nexec "${process.execPath}" "$@"\n`);
  assert.match(checkout.startOnOldNode(), /mislaid .* run the same command again\n$/);
  assert.equal(spawnSync(join(checkout.path, "node_modules", ".bin", "node"), ["--version"]).status, 0);
});

test("if the Node from npm cannot run here, the line names what may be missing", () => {
  using checkout = new Checkout();
  checkout.bring("#!/bin/sh\nexit 127\n");
  assert.match(checkout.startOnOldNode(), /does not run here.*libatomic1.*\n$/);
});

test("on the Node from npm the command runs", () => {
  const { status, stdout } = spawnSync(process.execPath, [launcher, "--help"], { encoding: "utf8" });
  assert.equal(status, 0);
  assert.match(stdout, /cardea/);
});

/** A checkout that contains only the command. */
class Checkout extends TemporaryFolder {
  constructor() {
    super("checkout");
    cpSync(dirname(launcher), join(this.path, "bin"), { recursive: true });
  }
  /** Installs the package that provides Node with this content, as npm 9 does: without linking the command. */
  bring(script: string): void {
    const name = process.platform === "darwin" && process.arch === "arm64" ? "node-bin" : "node";
    const folder = join(this.path, "node_modules", `${name}-${process.platform}-${process.arch}`, "bin");
    mkdirSync(folder, { recursive: true });
    mkdirSync(join(this.path, "node_modules", ".bin"));
    writeFileSync(join(folder, "node"), script, { mode: 0o755 });
  }
  startOnOldNode(): string {
    const { status, stderr } = runOnNode(
      "20.19.2",
      { npm_lifecycle_event: "start" },
      join(this.path, "bin", "cardea.cjs"),
    );
    assert.equal(status, 2);
    return stderr;
  }
}

/** Runs the program on the current Node, which claims to be an older version. */
function runOnNode(version: string, env: Record<string, string>, command = launcher) {
  using folder = new TemporaryFolder("launcher");
  const disguise = join(folder.path, "disguise.cjs");
  writeFileSync(
    disguise,
    `Object.defineProperty(process, "versions", { value: { node: "${version}" } });
     Object.defineProperty(process, "version", { value: "v${version}" });`,
  );
  const { npm_lifecycle_event: _, ...outside } = process.env;
  return spawnSync(process.execPath, ["-r", disguise, command, "dev"], {
    encoding: "utf8",
    env: { ...outside, ...env },
  });
}
