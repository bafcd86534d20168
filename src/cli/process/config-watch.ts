/**
 * Config watch: polls files every second and reports when they have changed.
 *
 * - It polls by name, so it does not matter how a file is replaced (overwritten, renamed into place, or behind a
 *   changed link as in Kubernetes), nor on which file system it lies.
 * - A file that still changes between two polls counts as being written, and is awaited.
 * - It also reports new files once, because they may have changed since they were read.
 */
import { stat } from "node:fs/promises";

export type ConfigWatch = Readonly<{
  /** Replaces the watched files. */
  watch(files: readonly string[]): void;
  stop(): void;
}>;

/** `seen`: checked for the first time. `changed`: differs from the last report. */
export type FileChange = "seen" | "changed";

export function watchConfig(
  options: Readonly<{ everyMs: number; onChange: (files: FileChange) => Promise<void> }>,
): ConfigWatch {
  let files: readonly string[] = [];
  /** The state at the last report. */
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

/** Identifies the file behind all links, and its version. */
async function fileStateOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(".");
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : "unknown";
  }
}
