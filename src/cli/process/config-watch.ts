/**
 * Config watch: tells when files are others than before.
 *
 * It looks at the files by their names, every second, so that it does not matter how they are replaced: written over, renamed
 * into place, or by a link that leads elsewhere since, as Kubernetes does; nor what lies beneath, be it a network's file system.
 * What changes between two looks is still being written, and is waited for. Files that it has not seen before are told of
 * as well: they may have changed since somebody read them.
 */
import { stat } from "node:fs/promises";

export type ConfigWatch = Readonly<{
  /** These files from now on. */
  watch(files: readonly string[]): void;
  stop(): void;
}>;

/** seen: for the first time · changed: since they were seen */
export type WatchedFiles = "seen" | "changed";

export function watchConfig(
  options: Readonly<{ everyMs: number; onFiles: (files: WatchedFiles) => Promise<void> }>,
): ConfigWatch {
  let files: readonly string[] = [];
  /** As they were when somebody was told last. */
  let told: string | undefined;
  let last: string | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  async function look(): Promise<void> {
    const asked = files;
    const now = JSON.stringify(await Promise.all(asked.map(stateOf)));
    if (stopped || asked !== files) return;
    const settled = now === last;
    last = now;
    if (now === told || !settled || asked.length === 0) return;
    const what = told === undefined ? "seen" : "changed";
    told = now;
    await options.onFiles(what);
  }

  function next(): void {
    if (stopped) return;
    timer = setTimeout(() => void look().finally(next), options.everyMs);
    timer.unref();
  }
  next();

  return {
    watch(others) {
      if (others.length === files.length && others.every((file, i) => file === files[i])) return;
      files = others;
      told = undefined;
      last = undefined;
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** What a file is, behind whatever links lead to it. */
async function stateOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(".");
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : "unknown";
  }
}
