/**
 * Directory metrics: the last run of each directory, as the log of this process has it. So every process with a copy of
 * the log shows the same, whichever broker leads.
 */
import { Gauge, type Registry } from "prom-client";
import { directoryStateOf } from "../../console/index.ts";
import { type DirectoryState, directoryResults } from "../../events/index.ts";
import type { Replica } from "../../replication/index.ts";

export function registerDirectoryMetrics(
  registry: Registry,
  parts: Readonly<{
    replica: Pick<Replica, "projection" | "open">;
    /** Those of the configuration in force. */
    names: () => readonly string[];
    now: () => number;
  }>,
): void {
  const gauge = (name: string, help: string, measure: (state: DirectoryState) => number | null): void => {
    new Gauge({
      name,
      help,
      labelNames: ["directory"],
      registers: [registry],
      collect() {
        this.reset();
        for (const directory of parts.names()) {
          const value = measure(directoryStateOf(parts.replica, directory));
          if (value !== null) this.set({ directory }, value);
        }
      },
    });
  };
  gauge(
    "cardea_directory_age_seconds",
    "Time since the last complete run of a directory ended; absent before the first one",
    ({ complete }) => (complete === null ? null : Math.max(0, parts.now() - complete.at) / 1_000),
  );
  gauge("cardea_directory_people", "People that a directory had at its last complete run", ({ complete }) =>
    complete === null ? null : complete.people,
  );
  gauge("cardea_directory_groups", "Groups that a directory had at its last complete run", ({ complete }) =>
    complete === null ? null : complete.groups,
  );
  gauge(
    "cardea_directory_removals",
    "Memberships withdrawn and people who lost access in the last run of a directory",
    ({ last }) => (last === null ? null : last.removed + last.ended),
  );
  new Gauge({
    name: "cardea_directory_last_run",
    help: "1 for the result of the last run of a directory",
    labelNames: ["directory", "result"],
    registers: [registry],
    collect() {
      this.reset();
      for (const directory of parts.names()) {
        const { last } = directoryStateOf(parts.replica, directory);
        if (last === null) continue;
        for (const result of directoryResults) this.set({ directory, result }, last.result === result ? 1 : 0);
      }
    },
  });
}
