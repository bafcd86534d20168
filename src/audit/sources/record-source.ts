/** Record source: a place where audit records are stored, read as lines. Each kind has a file beside this one. Pure. */
export type RecordSource = Readonly<{
  /** Names the place for people. */
  name: string;
  /**
   * The lines as they are stored, each without its end: the oldest first per node and boot as far as the store can, in
   * bounded memory. A record may come twice. Lines of other times may come too: the bounds are a help to the store.
   */
  lines(of: Readonly<{ fromMs?: number; toMs?: number; signal?: AbortSignal }>): AsyncIterable<string>;
  close(): Promise<void>;
}>;

/** How far reading is; called often. `unit`: what is counted. */
export type ReadingProgress = (done: number, total: number, unit: "bytes" | "days" | "segments") => void;
