/** Query progress: one line on a terminal that says how far reading is. Elsewhere nothing. */
import type { ReadingProgress } from "../../../audit/index.ts";
import type { Terminal } from "../../terminal/command.ts";

export type Progress = Readonly<{
  update: ReadingProgress;
  /** Removes the line, before something else is printed. */
  clear(): void;
}>;

const drawEveryMs = 200;

export function createProgress(terminal: Terminal, now: () => number = () => performance.now()): Progress {
  let drawnAt = now();
  let isDrawn = false;
  return {
    update(done, total, unit) {
      if (!terminal.interactive || now() - drawnAt < drawEveryMs) return;
      drawnAt = now();
      isDrawn = true;
      const share = total === 0 ? 100 : Math.floor((done / total) * 100);
      const what =
        unit === "bytes" ? `${share} % of ${Math.ceil(total / 1_048_576)} MiB` : `${done} of ${total} ${unit}`;
      terminal.err(`\r\u001b[2K${what} read`);
    },
    clear() {
      if (isDrawn) terminal.err("\r\u001b[2K");
      isDrawn = false;
    },
  };
}
