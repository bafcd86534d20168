/** Dead letters: the file of what a sink rejected, synced, with a bound. Pure, apart from the disk that it is given. */
import { CodedError } from "../events/index.ts";
import type { SpoolDisk, SpoolFile } from "./spool/index.ts";

const deadLetterBytesMax = 64 * 1_024 * 1_024;
const lineEnd = Buffer.from("\n");

export class DeadLettersFullError extends CodedError<"ERR_AUDIT_DEAD_LETTERS_FULL"> {
  override readonly code = "ERR_AUDIT_DEAD_LETTERS_FULL";
  constructor(sink: string, file: string) {
    super(`the dead-letter file ${file} of the sink ${sink} is full; move it away`);
  }
}

export class DeadLetters {
  readonly #of: Readonly<{ disk: SpoolDisk; sink: string; file: string }>;
  #open: Readonly<{ file: SpoolFile; at: number; torn: boolean }> | null = null;

  constructor(of: Readonly<{ disk: SpoolDisk; sink: string; file: string }>) {
    this.#of = of;
  }

  /** @throws DeadLettersFullError */
  async append(bytes: Buffer): Promise<void> {
    const { disk, sink, file: name } = this.#of;
    if (this.#open === null) {
      const known = (await disk.list()).find((file) => file.name === name);
      const file = await (known === undefined ? disk.create(name) : disk.open(name));
      const size = known?.size ?? 0;
      this.#open = { file, at: size, torn: await endsWithinALine(file, size) };
    }
    const { file, at, torn } = this.#open;
    const whole = torn ? Buffer.concat([lineEnd, bytes]) : bytes;
    if (at + whole.length > deadLetterBytesMax) {
      this.#open = null; // it may have been moved away by the next attempt
      await file.close();
      throw new DeadLettersFullError(sink, name);
    }
    await file.write([whole], at);
    await file.sync();
    this.#open = { file, at: at + whole.length, torn: false };
  }

  async close(): Promise<void> {
    await this.#open?.file.close();
  }
}

/** The last write of an earlier process may have ended in the middle of a line. */
async function endsWithinALine(file: SpoolFile, size: number): Promise<boolean> {
  const byte = Buffer.alloc(1);
  return size > 0 && (await file.read(byte, size - 1)) === 1 && byte[0] !== 0x0a;
}
