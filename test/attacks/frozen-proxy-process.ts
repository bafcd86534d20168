/** A proxy in a process of its own, which a test freezes or kills: everything it serves pours without end. Prints its port. */
import { cookieOf, routeTo, signedIn, startRig, startUpstream } from "../proxy/support.ts";

const chunk = Buffer.alloc(65_536, 97);
const upstream = await startUpstream((_req, res) => {
  const pour = (): void => {
    while (res.write(chunk));
  };
  res.on("drain", pour);
  pour();
});
const rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })]);
await rig.apply(signedIn(1));
process.stdout.write(`${JSON.stringify({ port: rig.port, cookie: cookieOf(1) })}\n`);
