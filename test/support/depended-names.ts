/**
 * Depended-on names: the names that operators, older builds and stored data rely on, collected from the sources.
 *
 * Metrics, error codes and HTTP paths are collected from the text of the sources. Events, commands, reasons and
 * measures are collected from the code that defines them.
 */
import { createHash } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { newCounters } from "../../src/broker/core/counters.ts";
import { commands } from "../../src/cli/commands/commands.ts";
import { formats } from "../../src/events/formats.ts";
import { cutReasons } from "../../src/proxy/enforce/exchanges.ts";
import { closeCodes } from "../../src/proxy/message/close-codes.ts";
import { failureReasons } from "../../src/proxy/reply/failures.ts";
import { postgresMigrations } from "../../src/replication/log/migrations/postgres-migrations.ts";
import { sqliteMigrations } from "../../src/replication/log/migrations/sqlite-migrations.ts";

const root = join(import.meta.dirname, "../..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const readCode = (file: string): string => read(file).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");

/** The names of each category, sorted. */
export type DependedNames = Readonly<Record<string, readonly string[]>>;

export function dependedNames(): DependedNames {
  const source = globSync("src/**/*.ts", { cwd: root }).map(readCode).join("\n");
  const wire = globSync("src/{replication,broker}/**/*.ts", { cwd: root }).map(readCode).join("\n");
  return {
    "error codes": literals(source, /"(ERR_[A-Z_]+)"/g),
    metrics: literals(source, /"((?:cardea|pomerium|envoy)_[a-z0-9_]+)"/g),
    "metric labels": [...source.matchAll(/labelNames: \[([^\]]*)\]/g)]
      .flatMap(([, list = ""]) => literals(list, /"([^"]+)"/g))
      .reduce(unique, [])
      .sort(),
    "measures of the broker": Object.keys(newCounters()).sort(),
    "header fields": literals(source, /"(x-[a-z0-9-]+)"/gi),
    "HTTP paths": literals(source, /["`](\/(?!proc\/|nonexistent\/|\.\.)[a-z.][a-z0-9._/:*-]*)["`]/g),
    "fields of messages": [
      ...literals(wire, /\bm\["(\w+)"\]/g),
      ...literals(wire, /\b(?:whole|text|finite|list|oneOf)\(m, "(\w+)"/g),
      ...literals(
        wire,
        /\b(\w+): (?:z\.|link\b|node\b|boot\b|epoch\b|position\b|hash\b|count\b|text(?:Of)?\b|bytes\b|unixMs\b)/g,
      ),
    ]
      .reduce(unique, [])
      .sort(),
    "event types and their versions": Object.entries(formats).map(([type, versions]) => `${type} ${versions.length}`),
    "cut reasons": [...cutReasons],
    "close codes": Object.entries(closeCodes).map(([reason, close]) => `${reason} ${close.code} ${close.reason}`),
    "failure reasons": [...failureReasons],
    commands: commands.map(({ name }) => name),
    "options of commands": commands
      .flatMap(({ name, help }) => literals(help, /(--[a-z][a-z-]*)/g).map((option) => `${name} ${option}`))
      .sort(),
    "configuration keys": keysOf(JSON.parse(read("docs/cardea.schema.json")), "")
      .reduce(unique, [])
      .sort(),
    "operations of the operator API": operationsOf(JSON.parse(read("docs/operator-api.openapi.json"))),
    "steps of the Postgres schema": postgresMigrations("s").map(digestOf),
    "steps of the SQLite schema": sqliteMigrations.map(digestOf),
  };
}

function literals(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)]
    .map(([, name = ""]) => name)
    .reduce(unique, [])
    .sort();
}

function unique(names: string[], name: string): string[] {
  if (!names.includes(name)) names.push(name);
  return names;
}

function digestOf(step: unknown): string {
  return createHash("sha256").update(JSON.stringify(step)).digest("hex").slice(0, 16);
}

function keysOf(schema: unknown, prefix: string): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  return Object.entries(schema).flatMap(([word, value]) => {
    if (word !== "properties") return typeof value === "object" ? keysOf(value, prefix) : [];
    return Object.entries(value as Readonly<Record<string, unknown>>).flatMap(([key, inner]) => [
      prefix + key,
      ...keysOf(inner, `${prefix}${key}.`),
    ]);
  });
}

function operationsOf(document: unknown): string[] {
  const { paths } = document as Readonly<{ paths: Readonly<Record<string, Readonly<Record<string, unknown>>>> }>;
  return Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
}
