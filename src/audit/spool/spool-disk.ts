/** SpoolDisk: what the spool needs of a file system, in one folder. Tests replace it with one that loses writes. */

export type SpoolFile = Readonly<{
  /** Writes all chunks, one after the other, from this offset on. A failure may leave any part of them. */
  write(chunks: readonly Uint8Array[], at: number): Promise<void>;
  /** Resolves when everything written before would survive a power failure, the file's name included. */
  sync(): Promise<void>;
  /** Reads into the buffer; fewer bytes than its length only at the end of the file. @returns the number read */
  read(into: Buffer, at: number): Promise<number>;
  truncate(size: number): Promise<void>;
  close(): Promise<void>;
}>;

export type SpoolDisk = Readonly<{
  /** Without what `replace` is writing. */
  list(): Promise<readonly Readonly<{ name: string; size: number }>[]>;
  /** Creates an empty file, which must not exist. */
  create(name: string): Promise<SpoolFile>;
  open(name: string): Promise<SpoolFile>;
  /** @returns null if there is no such file */
  readSmall(name: string): Promise<Buffer | null>;
  /** Replaces a small file as a whole. Resolves when the new content would survive a power failure. */
  replace(name: string, bytes: Uint8Array): Promise<void>;
  /** Succeeds if the file does not exist. */
  remove(name: string): Promise<void>;
}>;
