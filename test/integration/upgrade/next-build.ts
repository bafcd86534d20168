/**
 * The next build: source changes that make this program its hypothetical next version, for tests of upgrades.
 *
 * - It reads one level more. There a suspension has another shape, and two types are new: `SessionCut` (final, for
 *   `SessionRevoked`) and `UserReadmitted` (may change decisions either way, for `UserRestored`).
 * - It adds a migration of the store's schema.
 * - next-main.ts changes the sources as they are loaded, and refuses to start if a `take` is not found once.
 */
import { readFileSync } from "node:fs";

export type SourceChange = Readonly<{ file: string; take: string; put: string }>;

export const nextVersion = "2.0.0-next";
const formats = "src/events/formats.ts";
/** From the text, because importing the module would load it before it is changed. */
export const presentLevel = presentLevelIn(readFileSync(new URL(`../../../${formats}`, import.meta.url), "utf8"));
export const nextLevel = presentLevel + 1;

const catalog = "src/events/catalog.ts";
const state = "src/events/projection/state.ts";
const projection = "src/events/projection/projection.ts";
const migrations = "src/replication/log/migrations/postgres-migrations.ts";
const lastOfSchema = "    { worksWith: 2, sql: appendByRows(s) },\n";
export const nextSchema = readFileSync(new URL(`../../../${migrations}`, import.meta.url), "utf8").split(
  "worksWith: ",
).length;
const insertBefore = (file: string, take: string, more: string): SourceChange => ({
  file,
  take,
  put: `${more}${take}`,
});

const sinceNextLevel = (type: string, stream: string, effect: string): string =>
  `  ${type}: { stream: ${stream}, effect: "${effect}", formats: [{ level: ${nextLevel} }], describe: () => "" },\n`;

export const nextBuild: readonly SourceChange[] = [
  { file: "src/cli/terminal/version.ts", take: "String(packageJson.version)", put: JSON.stringify(nextVersion) },
  { file: formats, take: `export const readsLevel = ${presentLevel};`, put: `export const readsLevel = ${nextLevel};` },
  {
    file: catalog,
    take: `    formats: withFieldsAt(5, "until"),
    describe: ({ reason, until }) => \`suspended`,
    put: `    formats: [
      ...withFieldsAt(5, "until"),
      { level: ${nextLevel}, up: ({ reason, ...rest }) => ({ ...rest, why: reason }), down: ({ why, ...rest }) => ({ ...rest, reason: why }) },
    ],
    describe: ({ reason, until }) => \`suspended`,
  },
  insertBefore(catalog, "  SessionRevoked: {", sinceNextLevel("SessionCut", "bySession", "tightens")),
  insertBefore(catalog, "  UserRestored: {", sinceNextLevel("UserReadmitted", "byUser", "either")),
  insertBefore(state, '    case "SessionRevoked":\n      return session?.status', '    case "SessionCut":\n'),
  insertBefore(state, '    case "UserRestored":\n      return', '    case "UserReadmitted":\n'),
  insertBefore(projection, '      case "SessionRevoked":\n        this.#putSession(', '      case "SessionCut":\n'),
  insertBefore(projection, '      case "UserRestored":\n      case "UserErased":', '      case "UserReadmitted":\n'),
  {
    file: migrations,
    take: lastOfSchema,
    put: `${lastOfSchema}    { worksWith: 3, sql: 'alter table "' + schema + '".event add column note text' },\n`,
  },
  {
    file: "src/broker/commands/session/revoke-session.ts",
    take: 'return recordChanges([{ type: "SessionRevoked", sessionId,',
    put: `return recordChanges([{ type: projection.level < ${nextLevel} ? "SessionRevoked" : "SessionCut", sessionId,`,
  },
  {
    file: "src/broker/commands/user/restore-user.ts",
    take: 'return recordChanges([{ type: "UserRestored", userId }]);',
    put: `return recordChanges([{ type: projection.level < ${nextLevel} ? "UserRestored" : "UserReadmitted", userId }]);`,
  },
  {
    file: "src/broker/commands/user/suspend-user.ts",
    take: '{ type: "UserSuspended", userId, reason, ...end }',
    put: '{ type: "UserSuspended", userId, why: reason, ...end }',
  },
];

function presentLevelIn(source: string): number {
  const level = /^export const readsLevel = (\d+);$/m.exec(source)?.[1];
  if (level === undefined) throw new Error(`next build: ${formats} does not state its level`);
  return Number(level);
}
