/**
 * `cardea token`: a person's credential for scripts, curl and git.
 *
 * Standard output carries the token and nothing else, so that `$(cardea token URL)` works. Messages go to standard
 * error.
 */
import { parse } from "../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../terminal/command.ts";
import { parseProxy } from "../tunnel/destination.ts";
import { accessHelp, accessOptions, createAccess, proxyUrlOf } from "../tunnel/tunnel-access.ts";

export const token: CliCommand = {
  name: "token",
  usage: "<https://app.example.com | host> [--no-browser | --no-sign-in]",
  summary: "print a credential for scripts, curl and git; signs in when needed",
  help: `Prints the token alone. Send it as Authorization: Pomerium TOKEN or, where the service wants Authorization for itself, as
X-Pomerium-Authorization: TOKEN:
  curl -H "Authorization: Pomerium $(cardea token https://app.example.com)" https://app.example.com/
  git -c http.extraHeader="X-Pomerium-Authorization: $(cardea token https://git.example.com)" clone https://git.example.com/repo.git
The token is valid on the host that you name and on every TCP and UDP route, until you sign out or the session expires. Before printing
it, the command checks that the proxy still accepts the token, and otherwise opens your browser. With --no-sign-in it exits with 1 instead.
For CI jobs, see docs/scripts.md.
${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, { ...accessOptions, "no-sign-in": { type: "boolean" } }, { min: 0, max: 1 });
    const given = parsed.positionals[0] ?? proxyUrlOf(parsed, terminal);
    if (given === undefined)
      throw new UsageError("name the address that you want to use, such as https://app.example.com");
    const proxy = parseProxy(given.includes("://") ? given : `https://${given}`);
    const signIn = parsed.flag("no-sign-in") ? "never" : "when-needed";
    const credential = await createAccess(parsed, terminal).token(proxy, { signIn });
    if (credential === undefined) {
      terminal.err(`you are not signed in at ${proxy.origin}; sign in with: cardea login ${proxy.origin}\n`);
      return 1;
    }
    const json = { token: credential, origin: proxy.origin, authorization: `Pomerium ${credential}` };
    terminal.out(parsed.flag("json") ? `${JSON.stringify(json)}\n` : `${credential}\n`);
    return 0;
  },
};
