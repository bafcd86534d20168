/** What is read is not a snapshot, or not one that this build can read. Nothing of it was taken. */
export class MalformedSnapshotError extends Error {
  readonly code = "ERR_EVENTS_MALFORMED_SNAPSHOT";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed snapshot: ${problem}`, options);
    this.name = "MalformedSnapshotError";
  }
}
