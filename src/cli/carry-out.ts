/** Sends a change and, with `--wait`, shows its receipt as it completes. */
import { writeFile } from "node:fs/promises";
import type { ChangeAnswer } from "../console/index.ts";
import { formatLink } from "../events/index.ts";
import type { Receipt } from "../replication/index.ts";
import { type Parsed, parseWait } from "./arguments.ts";
import { CannotError, type ExitCode, type Terminal } from "./command.ts";
import type { OperatorClient } from "./operator-client.ts";
import { receiptText } from "./print.ts";
import { showProgress, watchReceipt } from "./watch-receipt.ts";

/**
 * @param done what to say when the change is in the log
 * @returns 0; with `--wait` 1 when the receipt is not complete in time
 */
export async function carryOut(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  change: Readonly<{ path: string; body: object; done: string; unchanged: string }>,
): Promise<ExitCode> {
  const answer = (await client.post(change.path, { ...change.body, wait: "none" })) as ChangeAnswer;
  return tellOutcome(client, parsed, terminal, answer, answer.changed ? change.done : change.unchanged);
}

export async function tellOutcome(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  answer: ChangeAnswer,
  said: string,
): Promise<ExitCode> {
  const json = parsed.flag("json");
  const waits = parsed.flag("wait") || parsed.text("output") !== undefined;
  if (!json) terminal.out(`${said} (position ${answer.link.position}, epoch ${answer.link.epoch})\n`);
  if (!waits) {
    if (json) terminal.out(`${JSON.stringify(answer)}\n`);
    return 0;
  }
  const progress = showProgress(terminal);
  const line = (receipt: Receipt): string => `${JSON.stringify({ ...answer, receipt })}\n`;
  const receipt = await watchReceipt(client, {
    target: `link:${formatLink(answer.link)}`,
    wait: parsed.flag("region") ? "region" : "all",
    timeoutMs: parseWait(parsed.text("timeout"), 10_000),
    onProgress: json ? (soFar) => terminal.out(line(soFar)) : progress.show,
  });
  progress.clear();
  await saveReceipt(receipt, parsed.text("output"));
  terminal.out(json ? line(receipt) : receiptText(receipt, answer.promise));
  return receipt.complete ? 0 : 1;
}

/** The signed form, for whoever must be shown it. */
export async function saveReceipt(receipt: Receipt, path: string | undefined): Promise<void> {
  if (path === undefined) return;
  if (receipt.signed === null) throw new CannotError("the receipt came without a signature: its broker is too old");
  try {
    await writeFile(path, `${receipt.signed}\n`, { mode: 0o644 });
  } catch (cause) {
    throw new CannotError(`${path} cannot be written`, { cause });
  }
}
