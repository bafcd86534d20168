/** The command line: help, usage errors, suggestions and exit codes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { commands } from "../../../src/cli/commands/commands.ts";
import { commandsFor, runCommandLine } from "../../../src/cli/index.ts";
import { CannotError, UsageError } from "../../../src/cli/terminal/command.ts";
import { run } from "../support.ts";

test("--help for all commands, a family or one command prints to standard output and exits 0", async () => {
  for (const [args, line] of [
    [["--help"], "cardea sessions revoke"],
    [["sessions", "--help"], "cardea sessions revoke"],
    [["sessions", "revoke", "--help"], "cardea sessions revoke <"],
  ] as const) {
    const { code, out, err } = await run(args);
    assert.deepEqual([code, err], [0, ""], args.join(" "));
    assert.ok(out.includes(line), args.join(" "));
  }
  assert.ok(!(await run(["sessions", "--help"])).out.includes("cardea groups"), "only the family's own commands");
});

test("a first word loads all commands that begin with it, in the order of the help, or every command", async () => {
  for (const first of new Set(commands.map(({ name }) => name.split(" ")[0] ?? ""))) {
    const loaded = await commandsFor([first, "--help"]);
    const own = commands.filter(({ name }) => name.split(" ")[0] === first);
    assert.deepEqual(loaded === commands ? own : loaded, own, first);
  }
  for (const args of [[], ["--help"], ["nonsense"], ["constructor"]]) assert.equal(await commandsFor(args), commands);
});

test("wrong usage is reported on standard error and exits 2", async () => {
  for (const args of [["nonsense"], ["sessions"], ["sessions", "list", "--nonsense"], ["sessions", "nonsense"]]) {
    const { code, out, err } = await run(args);
    assert.deepEqual([code, out], [2, ""], args.join(" "));
    assert.notEqual(err, "", args.join(" "));
  }
});

test("a data folder that is locked or unusable is reported in one line and exits 3", async () => {
  for (const code of ["ERR_REPLICATION_DATA_FOLDER_LOCKED", "ERR_REPLICATION_DATA_FOLDER_UNUSABLE"]) {
    const errors: string[] = [];
    const fails = Object.assign(new Error("the place: the remedy"), { code });
    const command = { name: "start", usage: "", summary: "", help: "", run: () => Promise.reject(fails) };
    const terminal = { out() {}, err: (text: string) => void errors.push(text), interactive: false, env: {} };
    assert.equal(await runCommandLine(["start"], [command], terminal), 3);
    assert.deepEqual(errors, ["cardea start: the place: the remedy\n"]);
  }
});

test("an error that quotes a file or another server reaches the terminal as text alone", async () => {
  const said = "the witness answers \u001b]0;owned\u0007\u009b2J\u202egnorw";
  for (const error of [new CannotError(said), new UsageError(said), new Error(said)]) {
    const errors: string[] = [];
    const command = { name: "start", usage: "", summary: "", help: "", run: () => Promise.reject(error) };
    const terminal = { out() {}, err: (text: string) => void errors.push(text), interactive: false, env: {} };
    await runCommandLine(["start"], [command], terminal);
    assert.doesNotMatch(errors.join("").replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
    assert.match(errors.join(""), /the witness answers .*gnorw/);
  }
});

test("a mistyped command, subcommand or option gets a suggestion; an unrecognisable one does not", async () => {
  for (const [args, meant] of [
    [["sesions"], "did you mean cardea sessions?"],
    [["sesions", "revoke", "--user", "alice"], "did you mean cardea sessions revoke?"],
    [["chekc"], "did you mean cardea check?"],
    [["ssh-prox", "a", "22"], "did you mean cardea ssh-proxy?"],
    [["sessions", "revok"], "did you mean cardea sessions revoke?"],
    [["k8s", "exec-credentials"], "did you mean cardea k8s exec-credential?"],
    [["sessions", "list", "--jsno"], "did you mean --json?"],
    [["sessions", "revoke", "--tiemout=3s"], "did you mean --timeout?"],
    [["tcp", "db:1", "--proxy-ur", "x"], "did you mean --proxy-url?"],
  ] as const) {
    const { code, err } = await run(args);
    assert.equal(code, 2, args.join(" "));
    assert.ok(err.endsWith(`${meant}\n`), err);
  }
  assert.doesNotMatch((await run(["nonsense"])).err, /did you mean/);
  assert.match((await run(["nonsense"])).err, /see cardea --help\n$/);
  assert.match(
    (await run(["sessions", "nonsense"])).err,
    /use one of: sessions list, sessions show, sessions revoke\n$/,
  );
  assert.match((await run(["sessions", "list", "--nonsense"])).err, /see cardea sessions list --help\n$/);
});
