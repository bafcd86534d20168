#!/usr/bin/env node
/**
 * The `cardea` command: runs the sources in a checkout, and in a published package what `npm run build` made of them
 * (Node does not run TypeScript inside node_modules).
 */
require("./node-version.cjs");
// At most half of these threads look up host names. With Node's default of four, two names whose DNS server is silent
// would block all other lookups.
process.env.UV_THREADPOOL_SIZE ??= "16";
const { existsSync } = require("node:fs");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");

const source = join(__dirname, "..", "src", "main.ts");
const built = join(__dirname, "..", "dist", "main.js");
const isCheckout = existsSync(source);
if (isCheckout) require("../src/cli/process/gc/gc-threads.ts").restartForGc(); // the built program does so itself
import(pathToFileURL(isCheckout ? source : built).href).catch((error) => {
  console.error(error);
  process.exitCode = 3;
});
