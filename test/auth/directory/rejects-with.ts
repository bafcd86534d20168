/** Rejects with: a read that must fail with one kind of directory error, and say why. */
import assert from "node:assert/strict";
import { DirectoryError, type DirectoryErrorKind } from "../../../src/auth/directory/directory-error.ts";

export async function rejectsWith(work: Promise<unknown>, kind: DirectoryErrorKind, message: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof DirectoryError, String(error));
    assert.equal(error.kind, kind, error.message);
    assert.match(error.message, message);
    return true;
  });
}
