/** Runs a change of an operator and, with `--wait`, follows its receipt. */
import { randomUUID } from "node:crypto";
import type { ChangeAnswer, LocalChangeAnswer } from "../../console/index.ts";
import { formatLink } from "../../events/index.ts";
import type { Receipt, RegionLag } from "../../replication/index.ts";
import { type Parsed, parseWait } from "../terminal/arguments.ts";
import { CannotError, type ExitCode, type Terminal } from "../terminal/command.ts";
import { lastKnownText } from "../terminal/last-known-text.ts";
import { promiseIn, receiptText } from "../terminal/print.ts";
import { writeWhole } from "../terminal/text-output.ts";
import { printHeldChange } from "./blast-radius.ts";
import { isLocal, printLocal } from "./local-change.ts";
import { type OperatorClient, OperatorRefusedError, OperatorUnreachableError } from "./operator-client.ts";
import { showProgress, watchReceipt } from "./watch-receipt.ts";

/**
 * @param change.done the sentence for a change that is in the log
 * @returns 0; with `--wait` 1 if the receipt is not complete in time
 */
export async function runChange(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  change: Readonly<{ path: string; body: object; done: string; unchanged: string }>,
): Promise<ExitCode> {
  await checkRegion(client, parsed);
  const answer = (await postChange(client, change.path, change.body).catch(async (error: unknown) => {
    const heldId = error instanceof OperatorRefusedError ? error.heldId : null;
    if (heldId !== null) await printHeldChange(client, terminal, heldId).catch(() => {}); // the refusal has the id, too
    throw error;
  })) as ChangeAnswer | LocalChangeAnswer;
  if (isLocal(answer)) return printLocal(client, parsed, terminal, answer);
  return printOutcome(client, parsed, terminal, answer, answer.changed ? change.done : change.unchanged);
}

/**
 * A receipt for a region without nodes would be complete at once. So a name that is mistyped is refused before the
 * change. @throws CannotError
 */
export async function checkRegion(client: OperatorClient, parsed: Parsed): Promise<void> {
  const region = parsed.text("region");
  if (region === undefined || !parsed.flag("region")) return;
  const { regions, home } = (await client.get("/nodes")) as Readonly<{ regions: readonly RegionLag[]; home?: object }>;
  // A region that is cut off knows only itself: what it answers to the request says more.
  if (home !== undefined || regions.some((known) => known.region === region)) return;
  const names = regions.map((known) => known.region).join(", ");
  throw new CannotError(`no node of region ${region} is known; the regions are: ${names}`);
}

/** The nodes that the receipt waits for. */
export function waitedFor(parsed: Parsed): Readonly<{ wait: "all" | "region"; region?: string }> {
  const region = parsed.text("region");
  if (!parsed.flag("region")) return { wait: "all" };
  return region === undefined ? { wait: "region" } : { wait: "region", region };
}

/**
 * Sends a change under a command id of its own. If its outcome is unknown, the error names the id, by which the change
 * can be found.
 */
export async function postChange(
  client: OperatorClient,
  path: string,
  body: object,
  timeoutMs?: number,
): Promise<unknown> {
  const commandId = randomUUID();
  try {
    return await client.post(path, { ...body, commandId, wait: "none" }, timeoutMs);
  } catch (error) {
    const mayBeMade =
      (error instanceof OperatorRefusedError || error instanceof OperatorUnreachableError) &&
      error.outcome === "unknown";
    if (!mayBeMade) throw error;
    const find = `cardea receipt ${commandId}`;
    const message = `${error.message}; the change may or may not have been made, which ${find} tells once a leader can be reached`;
    throw new CannotError(message, { cause: error });
  }
}

/** @param saved the changes whose receipts `--output` writes; the receipt of `answer` covers them all */
export async function printOutcome(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  answer: ChangeAnswer,
  sentence: string,
  saved: readonly ChangeAnswer[] = [answer],
): Promise<ExitCode> {
  const json = parsed.flag("json");
  const waits = parsed.flag("wait") || parsed.text("output") !== undefined;
  if (!json) terminal.out(`${sentence} (position ${answer.link.position}, epoch ${answer.link.epoch})\n`);
  if (!waits) {
    if (json) terminal.out(`${JSON.stringify(answer)}\n`);
    return 0;
  }
  const progress = showProgress(terminal);
  const line = (receipt: Receipt): string => `${JSON.stringify({ ...answer, receipt })}\n`;
  const options = {
    ...waitedFor(parsed),
    timeoutMs: parseWait(parsed.text("timeout"), 10_000),
  };
  const receipt = await watchReceipt(client, {
    ...options,
    target: `link:${formatLink(answer.link)}`,
    onProgress: json ? (soFar) => terminal.out(line(soFar)) : progress.show,
  }).catch((error: unknown) => {
    progress.clear();
    printLastKnown(error, parsed, terminal);
    throw error;
  });
  progress.clear();
  const path = parsed.text("output");
  if (path !== undefined) {
    const receipts: Receipt[] = [];
    for (const { link } of saved) {
      const target = `link:${formatLink(link)}`;
      const isLast = link.position === answer.link.position;
      receipts.push(isLast ? receipt : await watchReceipt(client, { ...options, target, onProgress: () => {} }));
    }
    await saveReceipts(receipts, path);
  }
  terminal.out(json ? line(receipt) : receiptText(receipt, promiseIn(receipt) ?? answer.promise));
  return receipt.complete ? 0 : 1;
}

/** After a receipt that was refused because the region of the server is cut off: what that region knows instead. */
export function printLastKnown(error: unknown, parsed: Parsed, terminal: Terminal): void {
  const lastKnown = error instanceof OperatorRefusedError ? error.lastKnown : null;
  if (lastKnown === null) return;
  terminal.out(parsed.flag("json") ? `${JSON.stringify(lastKnown)}\n` : lastKnownText(lastKnown));
}

/** Writes the signed form of each receipt, one per line. */
export async function saveReceipts(receipts: readonly Receipt[], path: string): Promise<void> {
  if (receipts.some(({ signed }) => signed === null))
    throw new CannotError("the receipt has no signature, because the broker runs an older version");
  await writeWhole(path, receipts.map(({ signed }) => `${signed}\n`).join(""));
}
