/** The tree over all seals for a witness: its leaves, and the request over HTTP (C2SP tlog-witness). */

import type { OpenedEvidence } from "../../../audit/index.ts";
import {
  addCheckpointBody,
  type Checkpoint,
  cosignedAt,
  type NoteKey,
  parseCheckpoint,
  parseSignatures,
} from "../../../audit/index.ts";
import { CannotError } from "../../terminal/command.ts";

const answerMs = 30_000;
const answerCharsMax = 65_536;

/** Exports may overlap. @throws CannotError if two seals have one position in the log */
export function leavesOfSeals(seals: readonly OpenedEvidence[]): readonly Buffer[] {
  const byPosition = new Map<number, OpenedEvidence>();
  for (const one of seals) {
    const { position, hash } = one.link;
    const known = byPosition.get(position);
    if (known !== undefined && known.link.hash !== hash)
      throw new CannotError(`two seals have the position ${position}: they are of two histories of the log`);
    byPosition.set(position, one);
  }
  const inOrder = [...byPosition.values()].toSorted((a, b) => a.link.position - b.link.position);
  return inOrder.map(({ leaf }) => leaf);
}

/**
 * Has a checkpoint co-signed. The witness says what it has signed before, and gets a proof that the new tree continues
 * it. @returns the note with the cosignature @throws CannotError
 */
export async function requestCosignature({
  url,
  key,
  note,
  leaves,
}: Readonly<{ url: URL; key: NoteKey; note: string; leaves: readonly Buffer[] }>): Promise<string> {
  const checkpoint = parseCheckpoint(note);
  if (checkpoint === undefined) throw new CannotError("the checkpoint is malformed");
  let old = 0;
  for (let attempt = 0; attempt < 3; attempt++) {
    const { status, type, text } = await post(url, addCheckpointBody(leaves, { old, note }));
    if (status === 200) return `${note}${cosignatureIn(text, checkpoint, key)}`;
    if (status !== 409) throw new CannotError(`the witness answers ${status}: ${text.slice(0, 200).trim()}`);
    const size = /^(0|[1-9]\d{0,15})\n?$/.test(text) && type.startsWith("text/x.tlog.size") ? Number(text) : Number.NaN;
    if (size === old || !Number.isSafeInteger(size))
      throw new CannotError(
        `the witness has signed another tree of ${old} seals: the log was rewritten, or the seals are not all of its seals`,
      );
    if (size > leaves.length)
      throw new CannotError(
        `the witness has signed a tree of ${size} seals, and there are ${leaves.length}: the log has lost seals, or these are not all`,
      );
    old = size;
  }
  throw new CannotError("the witness was given other checkpoints meanwhile: try again");
}

function cosignatureIn(answer: string, checkpoint: Checkpoint, key: NoteKey): string {
  const signatures = parseSignatures(answer);
  const lines = answer.split("\n");
  for (const [at, signature] of (signatures ?? []).entries())
    if (cosignedAt({ ...checkpoint, signatures: [signature] }, key) !== undefined)
      return `${lines.filter((line) => line !== "")[at]}\n`;
  throw new CannotError("the answer of the witness has no signature by its key");
}

async function post(url: URL, body: string): Promise<Readonly<{ status: number; type: string; text: string }>> {
  try {
    const signal = AbortSignal.timeout(answerMs);
    const response = await fetch(url, { method: "POST", body, signal, redirect: "error" });
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk as Uint8Array, { stream: true });
      if (text.length > answerCharsMax) throw new Error("its answer is too long");
    }
    return { status: response.status, type: response.headers.get("content-type") ?? "", text };
  } catch (cause) {
    throw new CannotError(`the witness ${url.origin} does not answer`, { cause });
  }
}
