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
export type FileChange = "seen" | "changed";

export function watchConfig(
  options: Readonly<{ everyMs: number; onChange: (files: FileChange) => Promise<void> }>,
): ConfigWatch {
  let files: readonly string[] = [];
  /** As they were when somebody was told last. */
  let reported: string | undefined;
  let previous: string | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  async function check(): Promise<void> {
    const checkedFiles = files;
    const now = JSON.stringify(await Promise.all(checkedFiles.map(fileStateOf)));
    if (stopped || checkedFiles !== files) return;
    const settled = now === previous;
    previous = now;
    if (now === reported || !settled || checkedFiles.length === 0) return;
    const change = reported === undefined ? "seen" : "changed";
    reported = now;
    await options.onChange(change);
  }

  function scheduleCheck(): void {
    if (stopped) return;
    timer = setTimeout(() => void check().finally(scheduleCheck), options.everyMs);
    timer.unref();
  }
  scheduleCheck();

  return {
    watch(others) {
      if (others.length === files.length && others.every((file, i) => file === files[i])) return;
      files = others;
      reported = undefined;
      previous = undefined;
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** What a file is, behind whatever links lead to it. */
async function fileStateOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(".");
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : "unknown";
  }
}
