/** The demo identity provider, in a process of its own. */
import { startDemoProvider } from "../../src/dev/index.ts";
import { connectMain } from "../cluster/helper-process.ts";

export type ProviderOptions = Readonly<{
  port: number;
  issuer: string;
  clientId: string;
  clientSecret: string;
  redirectUri: string;
  signedOutUri: string;
}>;

const { options, main } = connectMain<ProviderOptions>();
const provider = await startDemoProvider({
  issuer: new URL(options.issuer),
  listen: { host: "127.0.0.1", port: options.port },
  clientId: options.clientId,
  clientSecret: options.clientSecret,
  redirectUris: [options.redirectUri],
  postLogoutRedirectUris: [options.signedOutUri],
  onError: (error) => console.error(error),
});
main.send({ type: "ready", port: options.port });
main.onMessage((message) => {
  if (message.type === "stop") void provider.close().then(() => process.exit(0));
});
