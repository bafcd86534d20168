/** The command line. */
import type { CliCommand } from "./terminal/command.ts";

export { runCommandLine } from "./terminal/command-line.ts";

/**
 * Commands by the first word of their names, each with the only file that it loads: `health` runs every few seconds in
 * containers, `run` does not load the commands of operators and the demo, and scripts call the others often.
 */
const byFirstWord: Readonly<Record<string, () => Promise<readonly CliCommand[]>>> = {
  run: async () => [(await import("./commands/run.ts")).run],
  check: async () => [(await import("./commands/check.ts")).check],
  async sessions() {
    const { sessionsList, sessionsRevoke, sessionsShow } = await import("./commands/sessions.ts");
    return [sessionsList, sessionsShow, sessionsRevoke];
  },
  async users() {
    const { usersErase, usersList, usersRefresh, usersRestore, usersShow, usersSuspend } = await import(
      "./commands/users.ts"
    );
    return [usersList, usersShow, usersRefresh, usersSuspend, usersRestore, usersErase];
  },
  async groups() {
    const { groupsAdd, groupsDelete, groupsList, groupsMembers, groupsRemove, groupsShow } = await import(
      "./commands/membership/groups.ts"
    );
    return [groupsList, groupsShow, groupsMembers, groupsAdd, groupsRemove, groupsDelete];
  },
  async access() {
    const { accessWhat, accessWho } = await import("./commands/access.ts");
    return [accessWho, accessWhat];
  },
  async cluster() {
    const { clusterFinalize, clusterRetire, clusterStatus } = await import("./commands/cluster.ts");
    const { clusterWatch } = await import("./commands/record/search.ts");
    return [clusterStatus, clusterWatch, clusterFinalize, clusterRetire];
  },
  receipt: async () => [(await import("./commands/receipts.ts")).receiptShow],
  async log() {
    const { logExport, logVerify } = await import("./commands/log.ts");
    return [logVerify, logExport];
  },
  async snapshot() {
    const { snapshotCreate, snapshotKeys, snapshotList, snapshotRestore, snapshotVerify } = await import(
      "./commands/snapshot.ts"
    );
    return [snapshotCreate, snapshotList, snapshotVerify, snapshotRestore, snapshotKeys];
  },
  postgres: async () => [(await import("./commands/postgres.ts")).postgresPromote],
  region: async () => [(await import("./commands/region.ts")).regionMoveHome],
  health: async () => [(await import("./commands/health.ts")).health],
};

/** The commands that the arguments can name. */
export async function commandsFor(args: readonly string[]): Promise<readonly CliCommand[]> {
  const [first = ""] = args;
  const load = Object.hasOwn(byFirstWord, first) ? byFirstWord[first] : undefined;
  return load === undefined ? (await import("./commands/commands.ts")).commands : load();
}
